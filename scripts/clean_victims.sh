#!/usr/bin/env bash
# Compare the tuned victims with gradient boosting on PhysioNet 2012, without any poisoned stay.
#   bash scripts/clean_victims.sh FOLDER     with set-a, set-b, Outcomes-a.txt and Outcomes-b.txt in FOLDER
# OUT names the folder to write, SPLITS the seeds of the random splits, VICTIMS the files of configs/tuned to
# train. Finished steps are kept: an interrupted script continues when it is run again.
set -euo pipefail
. "$(dirname "$0")/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
mimic3tf() { bash "$root/scripts/mimic3tf.sh" "$@"; }

needs 1 "$@"
records=$1
out=${OUT:-runs/clean-victims}
bash "$root/scripts/made_from.sh" "$out" "$records"
tuned=$root/configs/tuned
victims=${VICTIMS:-$(for file in "$tuned"/*.yaml; do basename "$file" .yaml; done)}

for split in ${SPLITS:-0 1 2}; do
  here=$out/split-$split
  data=$here/data
  [ -d "$data" ] || mimic3tf prepare physionet2012 --out "$data" --seed "$split" \
    --records "$records/set-a" --outcomes "$records/Outcomes-a.txt" \
    --records "$records/set-b" --outcomes "$records/Outcomes-b.txt"
  # A clean victim learns no trigger, but it is attacked with one.
  [ -f "$here/trigger.npz" ] || mimic3tf generate-trigger --data "$data" --out "$here/trigger.npz" > /dev/null
  for victim in $victims; do
    run=$here/$victim
    [ -f "$run/run.json" ] || mimic3tf train --model "$victim" --config "$tuned/$victim.yaml" --data "$data" \
      --trigger "$here/trigger.npz" --poisoning_proportion 0 --out "$run" --resume
    [ -f "$run/attack.json" ] || mimic3tf attack --run "$run" --data "$data" > "$run/attack.txt"
  done
done
"${VENV:-$root/.venv}/bin/python" "$root/tests/benchmarks/clean_victims.py" "$out"
