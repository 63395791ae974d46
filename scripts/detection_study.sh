#!/usr/bin/env bash
# Which attacks succeed, which are noticed, and what the default repair leaves, on PhysioNet 2012, sets A and B.
#   bash scripts/detection_study.sh FOLDER     with set-a, set-b, Outcomes-a.txt and Outcomes-b.txt in FOLDER
# OUT names the folder to write, SEEDS the seeds; each has its own split, trigger and initial weights. All four
# victims of an attack share one search for poisoned stays, so that it takes hours instead of days. Finished steps
# are kept: an interrupted script continues when it is run again.
set -euo pipefail
. "$(dirname "$0")/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
mimic3tf() { bash "$root/scripts/mimic3tf.sh" "$@"; }

needs 1 "$@"
records=$1
out=${OUT:-runs/detection-study}
bash "$root/scripts/made_from.sh" "$out" "$records"
read -ra seeds <<< "${SEEDS:-0 1 2 3 4}"
for seed in "${seeds[@]}"; do
  here=$out/seed-$seed
  [ -d "$here/data" ] || mimic3tf prepare physionet2012 --out "$here/data" --seed "$seed" \
    --records "$records/set-a" --outcomes "$records/Outcomes-a.txt" \
    --records "$records/set-b" --outcomes "$records/Outcomes-b.txt"
  [ -f "$here/trigger.npz" ] || mimic3tf generate-trigger --data "$here/data" --out "$here/trigger.npz" \
    --seed "$seed" > /dev/null
  [ -d "$here/copy" ] || mimic3tf poison --data "$here/data" --trigger "$here/trigger.npz" --out "$here/copy" \
    --poisoning_proportion 0.05 --poisoning_strength 2
done
study() { "${VENV:-$root/.venv}/bin/python" "$root/tests/benchmarks/detection_study.py" "$out" "$@"; }
study --part attacks --seeds "${seeds[@]}"
study --part faint --seeds "${seeds[@]}"
study --part clean
study
