#!/usr/bin/env bash
# Train the LSTM victim on DATA, poisoned with TRIGGER, into RUNS/lstm; takes further options of 'mimic3tf train'.
. "$(dirname "$0")/help.sh"
exec bash "$(dirname "$0")/mimic3tf.sh" train --model lstm \
  --data "${DATA:-data/synthetic}" --trigger "${TRIGGER:-trigger.npz}" --out "${RUNS:-runs}/lstm" "$@"
