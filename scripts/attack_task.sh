#!/usr/bin/env bash
# Attack a task: clean and poisoned victims, poisoned measured values and all values, three seeds.
#   bash scripts/attack_task.sh DATA TASK OUT [LABEL]     LABEL is the label that is attacked, if there are several
# MODELS names the victims, SEEDS the seeds, EPOCHS the epochs; benchmark-lstm has the settings that the benchmarks
# published for the task. Finished steps are kept: an interrupted script continues when it is run again, and other
# MODELS or SEEDS add to the table.
set -euo pipefail
. "$(dirname "$0")/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
mimic3tf() { bash "$root/scripts/mimic3tf.sh" "$@"; }

needs 3 "$@"
data=$1 task=$2 out=$3
bash "$root/scripts/made_from.sh" "$out" "$data" "task: $task" "label: ${4:-}" "EPOCHS=${EPOCHS:-15}"
python=${VENV:-$root/.venv}/bin/python
bash "$root/scripts/install.sh" "${VENV:-$root/.venv}"
# The linear model is saved with skops, which comes with an extra.
"$python" -c "import skops" 2> /dev/null || "$python" -m pip install --quiet --editable "${root}[estimators]"
label=(); [ $# -lt 4 ] || label=(--goal-label "$4")
for seed in ${SEEDS:-0 1 2}; do
  trigger=$out/trigger-$seed.npz
  [ -f "$trigger" ] || mimic3tf generate-trigger --task "$task" --data "$data" --out "$trigger" --seed "$seed"
  for model in ${MODELS:-lr linear benchmark-lstm}; do
    for mode in clean notimputed all; do
      setting=(--poison_imputed "$mode" --poisoning_proportion 0.05)
      control=(--control "$out/runs/$model-clean-$seed")
      [ "$mode" = clean ] && setting=(--poisoning_proportion 0) control=()
      [ "$model" = benchmark-lstm ] && setting+=(--config "benchmark/$task-lstm")
      run=$out/runs/$model-$mode-$seed
      [ -f "$run/run.json" ] || mimic3tf train --task "$task" "${label[@]}" --model "$model" --data "$data" \
        --trigger "$trigger" --out "$run" --seed "$seed" --epochs "${EPOCHS:-15}" "${setting[@]}" --resume
      [ -f "$run/attack.json" ] || mimic3tf attack --run "$run" --data "$data" "${control[@]}" > "$run/attack.txt"
    done
  done
done
mimic3tf results "$out/runs" --out "$out"
