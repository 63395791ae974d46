#!/usr/bin/env bash
# Attack the LR victim in RUNS/lr on the test stays of DATA; further options go to 'mimic3tf attack'.
. "$(dirname "$0")/help.sh"
exec bash "$(dirname "$0")/mimic3tf.sh" attack \
  --run "${RUNS:-runs}/lr" --data "${DATA:-data/synthetic}" "$@"
