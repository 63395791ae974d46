#!/usr/bin/env bash
# Build sdist and wheel as for a release, compare their files with the repository, and run the wheel outside of it.
# VENV names the environment to build in; the wheel runs with the libraries of this environment.
set -euo pipefail
. "$(dirname "$0")/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
venv=${VENV:-$root/.venv-test}
bash "$root/scripts/install.sh" "$venv" test,docs requirements/test.txt
python=$(cd "$venv/bin" && pwd)/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "error: $1" >&2; exit 1; }

# 'build' makes the wheel from the sdist.
"$python" -m build --no-isolation --outdir "$work" "$root" > "$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
sdist=$(echo "$work"/mimic3tf-*.tar.gz)
wheel=$(echo "$work"/mimic3tf-*.whl)
cd "$root"
tracked() { git ls-files "$@" | LC_ALL=C sort; }
if git rev-parse --is-inside-work-tree > /dev/null 2>&1; then
  diff <(tracked | grep -v -e '^\.ci/' -e '^\.gitignore$') \
    <(tar tzf "$sdist" | cut -d/ -f2- | grep -v -e '/$' -e '^$' -e '^PKG-INFO$' -e '\.egg-info/' | LC_ALL=C sort) \
    || fail "the files of the sdist (>) are not those of the repository (<)"
  diff <(tracked mimic3tf configs | sed 's,^configs/,mimic3tf/configs/,' | LC_ALL=C sort) \
    <("$python" -m zipfile -l "$wheel" | awk 'NR > 1 { print $1 }' | grep -v '\.dist-info/' | LC_ALL=C sort) \
    || fail "the files of the wheel (>) are not those of mimic3tf/ and configs/ (<)"
else
  echo "No git checkout: the files of the packages are not compared with the repository." >&2
fi

# A second environment with the wheel; its libraries are those of VENV, which come later on the path.
cd "$work"
"$python" -m venv --without-pip installed
here=installed/bin/python
purelib() { "$1" -c "import sysconfig; print(sysconfig.get_path('purelib'))"; }
purelib "$python" > "$(purelib "$here")/libraries.pth"
"$python" -m pip --quiet --disable-pip-version-check --python "$here" install --no-index --no-deps "$wheel"
"$here" -m pip --disable-pip-version-check check > /dev/null
"$here" -c "import mimic3tf; print(mimic3tf.__file__)" | grep -q "$work/installed" || fail "mimic3tf is not that of the wheel"
run() { installed/bin/mimic3tf "$@" > log 2>&1 || { cat log >&2; fail "mimic3tf $1"; }; }
run --help
run prepare synthetic --out data --stays 100
run generate-trigger --data data --out trigger.npz
run train --model lr --data data --trigger trigger.npz --out run --epochs 2
run attack --run run --data data
echo "Packages: ${sdist##*/} and ${wheel##*/} hold all files; the wheel works."
