#!/usr/bin/env bash
# Run the paper's whole grid on PhysioNet 2012, sets A and B, and write its report.
#   bash scripts/sweep_paper.sh FOLDER     with set-a, set-b, Outcomes-a.txt and Outcomes-b.txt in FOLDER
#   DATA=DIR bash scripts/sweep_paper.sh   on a directory in the benchmarks' layout
# OUT names the folder to write, SWEEP another sweep than the paper's (strengths, count, triggers, victims, or a
# file), OPTIONS further options of 'mimic3tf sweep'. Finished steps are kept: an interrupted script continues when it
# is run again.
set -euo pipefail
. "$(dirname "$0")/help.sh"
root=$(cd "$(dirname "$0")/.." && pwd)
mimic3tf() { bash "$root/scripts/mimic3tf.sh" "$@"; }

out=${OUT:-runs/sweeps}
sweep=${SWEEP:-paper}
data=${DATA:-$out/data}
read -ra options <<< "${OPTIONS:-}"
if [ -z "${DATA:-}" ]; then
  needs 1 "$@"
  records=$1
  bash "$root/scripts/made_from.sh" "$out" "$records"
  [ -d "$data" ] || mimic3tf prepare physionet2012 --out "$data" \
    --records "$records/set-a" --outcomes "$records/Outcomes-a.txt" \
    --records "$records/set-b" --outcomes "$records/Outcomes-b.txt"
fi
results=$out/$(basename "$sweep" .yaml)
mimic3tf sweep --config "$sweep" --data "$data" --out "$results" --resume "${options[@]}"
mimic3tf report --results "$results" --out "$results/report"
