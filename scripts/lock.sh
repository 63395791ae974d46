#!/usr/bin/env bash
# Lock what tests and documentation need: the newest versions that setup.cfg allows, and the oldest, with their hashes,
# for Python 3.11 to 3.13 on every system. Versions locked before are kept where they still fit.
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
