#!/usr/bin/env bash
# Attack the LSTM victim in RUNS/lstm on the test stays of DATA; further options go to 'mimic3tf attack'.
. "$(dirname "$0")/help.sh"
exec bash "$(dirname "$0")/mimic3tf.sh" attack \
  --run "${RUNS:-runs}/lstm" --data "${DATA:-data/synthetic}" "$@"
