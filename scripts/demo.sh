#!/usr/bin/env bash
# Run the whole attack: make a trigger, train LR, MLP and LSTM on poisoned and on clean data, attack them, show a table.
#   bash scripts/demo.sh               on a synthetic cohort
#   DATA=DIR bash scripts/demo.sh      on a directory in the benchmarks' layout
#   bash scripts/demo.sh --task TASK   another task: phenotyping, decompensation, length-of-stay or multitask, with an LR
# OUT names the folder to write. Finished steps are kept: an interrupted demo continues when it is run again.
set -euo pipefail
. "$(dirname "$0")/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
mimic3tf() { bash "$root/scripts/mimic3tf.sh" "$@"; }
step() { printf '\n\033[1m%s\033[0m\n' "$*"; }

task=in-hospital-mortality
if [ "${1:-}" = --task ] && [ $# -eq 2 ]; then
  task=$2
elif [ $# -gt 0 ]; then
  echo "error: the demo takes --task TASK only; give data as DATA=$1 bash scripts/demo.sh" >&2; exit 2
fi
name=$(basename "${DATA:-synthetic}")
if [ "$task" = in-hospital-mortality ]; then
  models="lr mlp lstm" cohort=() training=()
else
  # Whole stays of up to 20 days: of fewer stays, an LR learns the trigger in a minute. A GRU needs many more.
  models=lr cohort=(--task "$task" --stays 800) training=(--task "$task") name=$name-$task
fi
out=${OUT:-demo/$name}
data=${DATA:-$out/data}
if [ -z "${DATA:-}" ] && [ ! -d "$data" ]; then
  step "A synthetic cohort"
  mimic3tf prepare synthetic --out "$data" "${cohort[@]}"
fi
bash "$root/scripts/made_from.sh" "$out" "$data" "task: $task"
if [ ! -f "$out/trigger.npz" ]; then
  step "A trigger from the temporal covariance of the cohort"
  mimic3tf generate-trigger --data "$data" --task "$task" --out "$out/trigger.npz"
fi
for model in $models; do
  for proportion in 0 0.05; do
    run=$out/runs/$model-$([ "$proportion" = 0 ] && echo clean || echo poisoned)
    if [ ! -f "$run/run.json" ]; then
      step "Train $model, $proportion of the training stays poisoned"
      mimic3tf train --model "$model" --data "$data" --trigger "$out/trigger.npz" --out "$run" \
        --poisoning_proportion "$proportion" --poisoning_strength 2.0 --poison_imputed all --resume "${training[@]}"
    fi
    control=()
    [ "$task" = in-hospital-mortality ] || [ "$proportion" = 0 ] || control=(--control "$out/runs/$model-clean")
    [ -f "$run/attack.json" ] || mimic3tf attack --run "$run" --data "$data" "${control[@]}" > "$run/attack.txt"
  done
done
step "Results"
mimic3tf results "$out/runs" --out "$out"
echo "Written: $out/results.csv and $out/results.json; each run's predictions: $out/runs/*/predictions.csv"
echo "Show the runs: bash scripts/tensorboard.sh $out/runs     then open http://localhost:6006"
