#!/usr/bin/env bash
# Attack the prediction of the remaining stay on PhysioNet 2012; see attack_task.sh for victims and seeds.
#   bash scripts/length_of_stay.sh FOLDER     with set-a, set-b, Outcomes-a.txt and Outcomes-b.txt in FOLDER
# OUT names the folder to write. Finished steps are kept: an interrupted script continues when it is run again.
set -euo pipefail
. "$(dirname "$0")/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
mimic3tf() { bash "$root/scripts/mimic3tf.sh" "$@"; }

needs 1 "$@"
records=$1
out=${OUT:-runs/length-of-stay}
data=$out/data
bash "$root/scripts/made_from.sh" "$out" "$records"
[ -d "$out/physionet" ] || mimic3tf prepare physionet2012 --out "$out/physionet" \
  --records "$records/set-a" --outcomes "$records/Outcomes-a.txt" \
  --records "$records/set-b" --outcomes "$records/Outcomes-b.txt"
[ -d "$data" ] || "${VENV:-$root/.venv}/bin/python" "$root/scripts/length_of_stay.py" "$out/physionet" "$data" \
  "$records"/Outcomes-[ab].txt
bash "$root/scripts/attack_task.sh" "$data" length-of-stay "$out/attacks" "under 1 day"
