#!/usr/bin/env bash
# Attack the MLP victim in RUNS/mlp on the test stays of DATA; further options go to 'mimic3tf attack'.
. "$(dirname "$0")/help.sh"
exec bash "$(dirname "$0")/mimic3tf.sh" attack \
  --run "${RUNS:-runs}/mlp" --data "${DATA:-data/synthetic}" "$@"
