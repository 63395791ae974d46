"""How hard poisoned and clean stays pull at the victim's weights."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf.pipeline import Exposure

SAMPLE = 32
"""Stays of each kind: together a batch of the usual size."""


class GradientNorms:
    """Norms of the loss gradient on the first poisoned and the first clean training stays.

    Args:
        exposure: the training stays.
        inputs: their standardized inputs [N, ...].
        class_weights: weight of label 0 and of label 1 in the loss.
    """

    def __init__(
        self, exposure: Exposure, inputs: NDArray[np.float32], class_weights: Sequence[float]
    ) -> None:
        kinds = {"poisoned": exposure.triggered, "clean": ~exposure.triggered}
        stays = {kind: np.flatnonzero(flags)[:SAMPLE] for kind, flags in kinds.items() if flags.any()}
        sample = np.concatenate(list(stays.values()))
        self._kinds = list(stays)
        self._inputs, self._labels = tf.constant(inputs[sample]), tf.constant(exposure.labels[sample])
        weights = np.array(class_weights)[exposure.labels[sample]]
        of_kind = np.stack([np.isin(sample, chosen) * weights for chosen in stays.values()])
        self._weights = tf.constant(of_kind / of_kind.sum(axis=1, keepdims=True), tf.float32)

    def measure(self, model: keras.Model) -> dict[str, float]:
        """Euclidean norms of the gradients of the weighted mean loss, without dropout and L2.

        Returns:
            `gradient_norm_poisoned`, where stays are poisoned, and `gradient_norm_clean`.
        """
        norms = self._norms(model).numpy()
        return {f"gradient_norm_{kind}": float(norm) for kind, norm in zip(self._kinds, norms, strict=True)}

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def _norms(self, model: keras.Model) -> tf.Tensor:
        with tf.GradientTape(persistent=True) as tape:
            logits = model(self._inputs, training=False)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(self._labels, logits)
            totals = [tf.reduce_sum(weights * losses) for weights in tf.unstack(self._weights)]
        return tf.stack(
            [tf.linalg.global_norm(tape.gradient(total, model.trainable_variables)) for total in totals]
        )
