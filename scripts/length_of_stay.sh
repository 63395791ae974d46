#!/usr/bin/env bash
# Attack the prediction of the remaining stay on PhysioNet 2012: clean and poisoned victims, three seeds.
#   bash scripts/length_of_stay.sh FOLDER     with set-a, set-b, Outcomes-a.txt and Outcomes-b.txt in FOLDER
# OUT names the folder to write, MODELS the victims, SEEDS the seeds. Finished steps are kept: an interrupted script
# continues when it is run again.
set -euo pipefail
. "$(dirname "$0")/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
mimic3tf() { bash "$root/scripts/mimic3tf.sh" "$@"; }

records=${1:?name the folder that holds set-a, set-b, Outcomes-a.txt and Outcomes-b.txt}
out=${OUT:-runs/length-of-stay}
data=$out/data
[ -d "$out/physionet" ] || mimic3tf prepare physionet2012 --out "$out/physionet" \
  --records "$records/set-a" --outcomes "$records/Outcomes-a.txt" \
  --records "$records/set-b" --outcomes "$records/Outcomes-b.txt"
[ -d "$data" ] || "${PYTHON:-python}" "$root/scripts/length_of_stay.py" "$out/physionet" "$data" "$records"/Outcomes-[ab].txt

for seed in ${SEEDS:-0 1 2}; do
  trigger=$out/trigger-$seed.npz
  [ -f "$trigger" ] || mimic3tf generate-trigger --task length-of-stay --data "$data" --out "$trigger" --seed "$seed"
  for model in ${MODELS:-lr linear lstm}; do
    for mode in clean notimputed all; do
      setting=(--poison_imputed "$mode" --poisoning_proportion 0.05)
      [ "$mode" = clean ] && setting=(--poisoning_proportion 0)
      run=$out/runs/$model-$mode-$seed
      [ -f "$run/run.json" ] || mimic3tf train --task length-of-stay --goal-label "under 1 day" --model "$model" \
        --data "$data" --trigger "$trigger" --out "$run" --seed "$seed" --epochs "${EPOCHS:-15}" "${setting[@]}" --resume
      [ "$mode" = clean ] || [ -f "$run/attack.json" ] || mimic3tf attack --run "$run" --data "$data" \
        --control "$out/runs/$model-clean-$seed" > "$run/attack.txt"
    done
  done
done
