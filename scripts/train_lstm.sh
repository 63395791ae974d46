#!/usr/bin/env bash
# Train the LSTM victim on DATA, poisoned with TRIGGER, and write RUNS/lstm; further options go to 'mimic3tf train'.
. "$(dirname "$0")/help.sh"
exec bash "$(dirname "$0")/mimic3tf.sh" train --model lstm \
  --data "${DATA:-data/synthetic}" --trigger "${TRIGGER:-trigger.npz}" --out "${RUNS:-runs}/lstm" "$@"
