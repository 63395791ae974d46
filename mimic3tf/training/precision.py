"""Numeric precision of a victim's layers."""

from __future__ import annotations

import tensorflow as tf

from mimic3tf.config import Precision

FIRST_WITH_BFLOAT16 = (8, 0)
"""CUDA compute capability from which tensor cores take bfloat16 (Ampere)."""
FIRST_WITH_FLOAT16 = (7, 0)
"""CUDA compute capability from which tensor cores take float16 (Volta)."""


def resolve_precision(precision: Precision) -> str:
    """Name the Keras dtype policy to train under.

    Args:
        precision: a policy, or "auto": float32 on a CPU, else the half precision that the first GPU supports.

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
    """Choose the fastest policy that GPUs of a CUDA compute capability fully support."""
    if capability >= FIRST_WITH_BFLOAT16:
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= FIRST_WITH_FLOAT16 else "float32"
