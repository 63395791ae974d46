#!/usr/bin/env bash
# Record the data and settings that a folder of results is made from: bash scripts/made_from.sh OUT DATA [SETTING ...]
# The first call writes OUT/made_from.txt. A later call with other data or settings fails, so that results of two
# cohorts are never mixed. DATA is a folder; names, sizes and times of all its files are compared.
set -euo pipefail
. "$(dirname "$0")/help.sh"
needs 2 "$@"
out=$1
data=$2
shift 2
[ -d "$data" ] || { echo "error: $data: no such directory" >&2; exit 2; }
files=$(cd "$data" && find -L . -type f -printf '%P %s %T@\n' | LC_ALL=C sort | sha256sum | cut -c1-64)
made_from=$(printf '%s\n' "data: $(cd "$data" && pwd -P)" "files: $files" "$@")
if [ -f "$out/made_from.txt" ]; then
  if ! difference=$(diff "$out/made_from.txt" <(printf '%s\n' "$made_from")); then
    echo "error: $out: holds results made from something else; choose another folder, such as OUT=$out-2" >&2
    echo "$difference" | grep '^[<>]' | sed 's/^</before:/; s/^>/now:   /' >&2
    exit 2
  fi
else
  mkdir -p "$out"
  printf '%s\n' "$made_from" > "$out/made_from.txt"
fi
