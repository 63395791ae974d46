#!/usr/bin/env bash
# Make the tables of attack results on PhysioNet 2012, sets A and B: both modes, and clean victims as controls.
#   bash scripts/physionet2012.sh FOLDER     with set-a, set-b, Outcomes-a.txt and Outcomes-b.txt in FOLDER
# OUT names the folder to write, MODELS the victims, SEEDS the seeds (each has its own trigger and initial weights),
# PREPARE further options of 'mimic3tf prepare physionet2012'. Finished steps are kept: an interrupted script continues
# when it is run again, and other MODELS or SEEDS add to the table.
set -euo pipefail
. "$(dirname "$0")/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
mimic3tf() { bash "$root/scripts/mimic3tf.sh" "$@"; }

needs 1 "$@"
records=$1
out=${OUT:-runs/physionet2012}
data=$out/data
read -ra prepare <<< "${PREPARE:-}"
[ -d "$data" ] || mimic3tf prepare physionet2012 --out "$data" "${prepare[@]}" \
  --records "$records/set-a" --outcomes "$records/Outcomes-a.txt" \
  --records "$records/set-b" --outcomes "$records/Outcomes-b.txt"

bash "$root/scripts/made_from.sh" "$out" "$records" "PREPARE=${PREPARE:-}"

# attack_once RESULT [OPTION ...]: attack $run and write into RESULT, unless RESULT holds an attack already.
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
      # Strength and mode have no effect on a clean victim; it is attacked in both modes below.
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
