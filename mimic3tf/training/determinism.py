"""Operations of a GPU that give the same bits each time they run."""

from __future__ import annotations

import tensorflow as tf

from mimic3tf.config import TrainingConfig


def require_determinism(config: TrainingConfig) -> None:
    """Let TensorFlow run only operations that repeat, from now on, if the settings ask for it.

    Those of a CPU repeat anyway. There, TensorFlow would only compute the loss in another way, which rounds
    differently.
    """
    if config.deterministic and tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()
