"""Numeric precision of a victim's layers."""

from __future__ import annotations

import tensorflow as tf

from mimic3tf.config import Precision

FIRST_WITH_TF32 = (8, 0)
"""CUDA compute capability from which tensor cores take the factors of float32 products (Ampere)."""
FIRST_WITH_FLOAT16 = (7, 0)
"""CUDA compute capability from which tensor cores take float16 (Volta)."""


def resolve_precision(precision: Precision) -> str:
    """Name the Keras dtype policy to train under.

    Args:
        precision: a policy, or "auto": float32, or mixed_float16 where tensor cores take nothing else.

    Returns:
        "float32", "mixed_float16" or "mixed_bfloat16".
    """
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "float32"
    capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
    return policy_for(capability)


def policy_for(capability: tuple[int, int]) -> str:
    """Choose the fastest policy on a GPU of a CUDA compute capability, from which learning does not suffer.

    On an H200, half precision made victims up to 12% faster and up to 35% slower (docs/performance.md). Older
    GPUs were not measured.
    """
    return "mixed_float16" if FIRST_WITH_FLOAT16 <= capability < FIRST_WITH_TF32 else "float32"
