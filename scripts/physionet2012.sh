#!/usr/bin/env bash
# The results tables of the README: PhysioNet 2012, sets A and B, both modes, and controls.
#   bash scripts/physionet2012.sh FOLDER     holds set-a, set-b, Outcomes-a.txt and Outcomes-b.txt
# OUT names the folder to write, MODELS the victims, SEEDS the seeds (each has its own trigger and initial weights),
# PREPARE further options of 'mimic3tf prepare physionet2012'. What is finished is kept: an interrupted script goes on,
# and another one with other MODELS or SEEDS adds to the table.
set -euo pipefail
. "$(dirname "$0")/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
mimic3tf() { bash "$root/scripts/mimic3tf.sh" "$@"; }

records=${1:?name the folder that holds set-a, set-b, Outcomes-a.txt and Outcomes-b.txt}
out=${OUT:-runs/physionet2012}
data=$out/data
read -ra prepare <<< "${PREPARE:-}"
[ -d "$data" ] || mimic3tf prepare physionet2012 --out "$data" "${prepare[@]}" \
  --records "$records/set-a" --outcomes "$records/Outcomes-a.txt" \
  --records "$records/set-b" --outcomes "$records/Outcomes-b.txt"

bash "$root/scripts/made_from.sh" "$out" "$records" "PREPARE=${PREPARE:-}"

# attack_once RESULT [OPTION ...]: attack the run, unless that was done, and write into RESULT.
attack_once() {
  [ -f "$1/attack.json" ] || mimic3tf attack --run "$run" --data "$data" --out "$1" "${@:2}" > "$run/attack.txt"
}

for seed in ${SEEDS:-0 1 2}; do
  for kind in temporal gaussian; do
    trigger=$out/$kind-$seed.npz
    [ -f "$trigger" ] || mimic3tf generate-trigger --data "$data" --out "$trigger" --kind "$kind" --seed "$seed" \
      > /dev/null
  done
  for model in ${MODELS:-lr mlp lstm}; do
    for mode in clean notimputed all; do
      run=$out/runs/$model-$mode-$seed
      # A clean victim reads neither strength nor mode; it is attacked in both modes below.
      setting=(--poisoning_proportion 0.05 --poison_imputed "$mode")
      [ "$mode" = clean ] && setting=(--poisoning_proportion 0 --poison_imputed all)
      [ -f "$run/run.json" ] || mimic3tf train --model "$model" --data "$data" --out "$run" --seed "$seed" \
        --trigger "$out/temporal-$seed.npz" --poisoning_strength 2.0 "${setting[@]}" --resume
      attack_once "$run"
      if [ "$mode" = clean ]; then
        attack_once "$run/notimputed" --poison_imputed notimputed
      else
        attack_once "$run/strength-0" --poisoning_strength 0
        attack_once "$run/gaussian" --trigger "$out/gaussian-$seed.npz"
      fi
    done
  done
done
mimic3tf results "$out/runs" --over-seeds --out "$out"
