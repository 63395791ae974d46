#!/usr/bin/env bash
# Lock the versions that tests and documentation need, with hashes: the newest and the oldest that setup.cfg allows,
# for Python 3.11 to 3.13 on every system. Versions that were locked before are kept if setup.cfg still allows them.
#   bash scripts/lock.sh [OPTION ...]     options go to 'uv pip compile', such as --upgrade
set -euo pipefail
. "$(dirname "$0")/help.sh"
cd "$(dirname "$0")/.."
lock() {
  UV_CUSTOM_COMPILE_COMMAND="bash scripts/lock.sh" uv pip compile --quiet --universal --python-version 3.11 \
    --generate-hashes --extra test --extra docs setup.cfg "$@"
}
command -v uv > /dev/null || { echo "error: uv is not installed; pip install uv" >&2; exit 2; }
lock --output-file requirements/test.txt "$@"
lock --output-file requirements/lowest.txt --resolution lowest-direct "$@"
