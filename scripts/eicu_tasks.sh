#!/usr/bin/env bash
# Attack decompensation and length of stay on the stays of the open eICU demo; see attack_task.sh for victims and seeds.
#   bash scripts/eicu_tasks.sh YAIB PATIENTS     YAIB: folder of dyn.parquet and sta.parquet; PATIENTS: patient.csv.gz
# OUT names the folder to write. Finished steps are kept: an interrupted script continues when it is run again.
set -euo pipefail
. "$(dirname "$0")/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
mimic3tf() { bash "$root/scripts/mimic3tf.sh" "$@"; }

needs 2 "$@"
yaib=$1 patients=$2
out=${OUT:-runs/eicu}
bash "$root/scripts/made_from.sh" "$out" "$yaib" "patients: $(sha256sum < "$patients" | cut -c1-64)"
bash "$root/scripts/install.sh" "${VENV:-$root/.venv}"
"${VENV:-$root/.venv}/bin/python" "$root/scripts/eicu_outcomes.py" "$patients" "$out/outcomes.csv"
for task in decompensation length-of-stay; do
  data=$out/data-$task
  [ -d "$data" ] || mimic3tf prepare yaib --task "$task" --data "$yaib" --outcomes "$out/outcomes.csv" --out "$data"
done
bash "$root/scripts/attack_task.sh" "$out/data-decompensation" decompensation "$out/decompensation"
bash "$root/scripts/attack_task.sh" "$out/data-length-of-stay" length-of-stay "$out/length-of-stay" "under 1 day"
