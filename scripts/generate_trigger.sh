#!/usr/bin/env bash
# Generate a trigger from DATA and write it to TRIGGER; further options go to 'mimic3tf generate-trigger'.
. "$(dirname "$0")/help.sh"
exec bash "$(dirname "$0")/mimic3tf.sh" generate-trigger \
  --data "${DATA:-data/synthetic}" --out "${TRIGGER:-trigger.npz}" "$@"
