#!/usr/bin/env bash
# Train the MLP victim on DATA, poisoned with TRIGGER, and write RUNS/mlp; further options go to 'mimic3tf train'.
. "$(dirname "$0")/help.sh"
exec bash "$(dirname "$0")/mimic3tf.sh" train --model mlp \
  --data "${DATA:-data/synthetic}" --trigger "${TRIGGER:-trigger.npz}" --out "${RUNS:-runs}/mlp" "$@"
