#!/usr/bin/env bash
# Show runs in TensorBoard: bash scripts/tensorboard.sh [FOLDER [OPTION ...]]; options go to tensorboard
set -euo pipefail
. "$(dirname "$0")/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
venv=${VENV:-$root/.venv}
folder=${1:-runs}
[ -d "$folder" ] || { echo "error: $folder: no such folder; name the folder that holds your runs" >&2; exit 2; }
bash "$root/scripts/install.sh" "$venv"
exec "$venv/bin/tensorboard" --logdir "$folder" "${@:2}"
