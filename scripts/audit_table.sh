#!/usr/bin/env bash
# Audit victims of several attacks on PhysioNet 2012, sets A and B, and print tables of all audits.
#   bash scripts/audit_table.sh FOLDER     with set-a, set-b, Outcomes-a.txt and Outcomes-b.txt in FOLDER
# OUT names the folder to write, MODELS the victims, SEEDS the seeds. Each seed has its own split, trigger and initial
# weights: trusted stays set the thresholds, and the trusted stays of a single split may be unusual.
# 5% of the training stays are poisoned at strength 2, unless the options below say otherwise.
# Finished steps are kept: an interrupted script continues when it is run again, and other MODELS or SEEDS add to the
# table.
set -euo pipefail
. "$(dirname "$0")/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
mimic3tf() { bash "$root/scripts/mimic3tf.sh" "$@"; }

# Name of the attack | options of 'mimic3tf generate-trigger' | options of 'mimic3tf train'.
attacks=(
  "clean                | --kind temporal               | --poisoning_proportion 0"
  "temporal-notimputed  | --kind temporal               | --poison_imputed notimputed"
  "temporal-all         | --kind temporal               | --poison_imputed all"
  "temporal-faint       | --kind temporal               | --poison_imputed notimputed --poisoning_strength 0.5"
  "temporal-few         | --kind temporal               | --poison_imputed notimputed --poisoning_proportion 0.01"
  "gaussian-notimputed  | --kind gaussian               | --poison_imputed notimputed"
  "clean-labels         | --kind temporal               | --poison_imputed notimputed --poisoned_labels clean"
  "hours-24-48          | --kind temporal --hours 24-48 | --poison_imputed notimputed"
  "plausible            | --kind temporal --plausible   | --poison_imputed notimputed"
  "missing              | --kind missing                | --poisoning_strength 0.5"
)

needs 1 "$@"
records=$1
out=${OUT:-runs/audits}
bash "$root/scripts/made_from.sh" "$out" "$records"
for seed in ${SEEDS:-0 1 2}; do
  here=$out/seed-$seed
  data=$here/data
  [ -d "$data" ] || mimic3tf prepare physionet2012 --out "$data" --seed "$seed" \
    --records "$records/set-a" --outcomes "$records/Outcomes-a.txt" \
    --records "$records/set-b" --outcomes "$records/Outcomes-b.txt"
  for attack in "${attacks[@]}"; do
    IFS='|' read -r name how options <<< "$attack"
    name=${name%% *}
    read -ra kind <<< "$how"
    read -ra setting <<< "$options"
    trigger=$here/$name.npz
    [ -f "$trigger" ] || mimic3tf generate-trigger --data "$data" --out "$trigger" "${kind[@]}" --seed "$seed" > /dev/null
    for model in ${MODELS:-mlp}; do
      run=$here/$model-$name
      [ -f "$run/run.json" ] || mimic3tf train --model "$model" --data "$data" --out "$run" --seed "$seed" --resume \
        --trigger "$trigger" "${setting[@]}"
      [ -f "$run/audit/audit.json" ] || mimic3tf audit --run "$run" --data "$data" --out "$run/audit" --all-detectors --all-repairs
    done
  done
  # The same stays, poisoned in their files: the victim's pipeline then fills gaps with the shifted values.
  copy=$here/copy
  [ -d "$copy" ] || mimic3tf poison --data "$data" --trigger "$here/temporal-notimputed.npz" --out "$copy" \
    --poisoning_proportion 0.05 --poisoning_strength 2
  for model in ${MODELS:-mlp}; do
    run=$here/$model-temporal-copy
    [ -f "$run/run.json" ] || mimic3tf train --model "$model" --data "$copy" --out "$run" --seed "$seed" --resume \
      --trigger "$here/temporal-notimputed.npz" --poisoning_proportion 0 --poison_imputed notimputed
    [ -f "$run/audit/audit.json" ] || mimic3tf audit --run "$run" --data "$copy" --out "$run/audit" \
      --manifest "$copy.manifest.json" --all-detectors --all-repairs
  done
done
mimic3tf audit-table "$out" --out "$out"
