"""Find the shortest pattern that makes a model predict one label for stays of the other label.

Source: Wang et al. 2019, Neural Cleanse: a backdoor is a shortcut, so the pattern that leads to its target
should be unusually small. "Small" is measured as the attack measures it: by the Mahalanobis length of every
channel's pattern under the channel's covariance over time, here estimated on trusted stays. The pattern of a
channel is L z, with L the Cholesky factor of that covariance: its length is `|z|`.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf.data.cohort import Cohort
from mimic3tf.data.grid import ordinal_view
from mimic3tf.defences.evidence import Gradients
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.patterns import temporal_covariance, varying_channels

WANTED = 0.9
"""Share of the attacked stays that must be predicted as the target with a pattern that works."""
RESTARTS = 2
STEPS = 120
STAYS_A_STEP = 32
STAYS_JUDGED = 256
LEARNING_RATE = 0.2
"""Learning rate of the first step; it falls to 0 along half a cosine."""
FIRST_LENGTH = 0.1
"""Mahalanobis length of the random starts."""
FIRST_COST = 0.05
"""Weight of the length in the loss of the first step."""
COST_FACTOR = 1.2
"""Factor by which that weight grows after a step with a pattern that works, and falls after another step."""
LARGEST_MULTIPLE = 3.0
"""A pattern is scaled by factors from 0 to this one to find the shortest length that works."""
BISECTIONS = 8


@dataclass(frozen=True)
class Inversion:
    """The shortest pattern that was found for a target label.

    Attributes:
        target: the label that the pattern leads to.
        pattern: float64 [T, C] in channel units (categories: index steps).
        lengths: float64 [C], Mahalanobis length in every channel; 0 in a channel that never varies.
        length: root of the sum of the squared lengths.
        reached: whether the pattern, without rounding, leads the share `WANTED` of the attacked stays to the
            target.
        success: share of the attacked stays that are predicted as the target with the pattern, with values
            rounded as in the attack.
        baseline: the same share without the pattern.
    """

    target: int
    pattern: NDArray[np.float64]
    lengths: NDArray[np.float64]
    length: float
    reached: bool
    success: float
    baseline: float


def invert_trigger(gradients: Gradients, stays: Cohort, *, target: int, seed: int) -> Inversion:
    """Look for the shortest pattern from several random starts at once.

    The pattern shifts measured and imputed cells. Adam lowers cross-entropy + `cost * |z|`; the cost rises
    while the pattern works and falls while it does not. The pattern is then scaled to the shortest length
    that works. A length near zero is no mistake: imputed cells of clean stays repeat each other, so a victim
    of features that was poisoned in imputed cells, too, can take any change of them for the trigger.

    Args:
        gradients: the model as a function of patterns that are added to these stays.
        stays: clean stays of both labels; those of the other label than the target are attacked.
        target: 0 or 1, the label that the pattern has to lead to.
        seed: fixes the random starts and the stays of every step.

    Returns:
        The shortest pattern that works; if none works, the shortest of all starts.
    """
    random = np.random.default_rng(seed)
    goal, towards = Goal(target), 1.0 if target == 1 else -1.0
    factors = channel_factors(stays)
    attacked = np.flatnonzero(goal.attacked(stays.labels))
    start = (
        random.standard_normal((RESTARTS, *factors.shape[:2])) * np.any(factors != 0, axis=(1, 2))[:, None]
    )
    norms = np.maximum(np.linalg.norm(start, axis=(1, 2), keepdims=True), 1e-12)
    z = tf.Variable(start * (FIRST_LENGTH / norms))
    factor = tf.constant(factors)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, STEPS))
    optimizer.build([z])

    @tf.function  # type: ignore[untyped-decorator]
    def take_step(batch: tf.Tensor, cost: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            margins = towards * gradients.margins(batch, _patterns(factor, z))
            entropy = tf.reduce_mean(tf.math.softplus(-margins), axis=1)
            loss = tf.reduce_sum(entropy + cost * tf.norm(z, axis=(1, 2)))
        optimizer.apply(tape.gradient(loss, [z]), [z])
        return tf.reduce_mean(tf.cast(margins > 0, tf.float64), axis=1)

    judged = random.permutation(attacked)[:STAYS_JUDGED]
    # Few at a time, because a model may read stays of a thousand hours.
    parts = [tf.constant(part) for part in np.split(judged, range(STAYS_A_STEP, len(judged), STAYS_A_STEP))]

    @tf.function  # type: ignore[untyped-decorator]
    def reached_at(scale: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
        margins = towards * gradients.margins(part, _patterns(factor, z * scale[:, None, None]))
        return tf.reduce_sum(tf.cast(margins > 0, tf.float64), axis=1)

    def success_at(scale: NDArray[np.float64]) -> NDArray[np.float64]:
        counts = [reached_at(tf.constant(scale), part).numpy() for part in parts]
        return np.asarray(np.sum(counts, axis=0) / len(judged))

    cost = np.full(RESTARTS, FIRST_COST)
    for _ in range(STEPS):
        batch = random.choice(attacked, STAYS_A_STEP)
        works = take_step(tf.constant(batch), tf.constant(cost)).numpy() >= WANTED
        cost *= np.where(works, COST_FACTOR, 1.0 / COST_FACTOR)

    shortest, longest = np.zeros(RESTARTS), np.full(RESTARTS, LARGEST_MULTIPLE)
    reached = success_at(longest) >= WANTED
    for _ in range(BISECTIONS):
        middle = (shortest + longest) / 2
        works = success_at(middle) >= WANTED
        shortest, longest = np.where(works, shortest, middle), np.where(works, middle, longest)
    scaled = z.numpy() * longest[:, None, None]
    lengths = np.linalg.norm(scaled, axis=2)  # [K, C]
    totals = np.linalg.norm(lengths, axis=1)
    best = int(np.argmin(np.where(reached, totals, np.inf))) if reached.any() else int(np.argmin(totals))
    pattern = _patterns(factor, tf.constant(scaled[best : best + 1])).numpy()[0]

    def share(exposure: exposures.Exposure) -> float:
        return float(goal.reached(gradients.risk(exposure)).mean())

    others = stays.take(attacked)
    return Inversion(
        target=target,
        pattern=pattern,
        lengths=lengths[best],
        length=float(totals[best]),
        reached=bool(reached[best]),
        success=share(exposures.shift_all(others, pattern, "all")),
        baseline=share(exposures.clean(others)),
    )


def channel_factors(stays: Cohort) -> NDArray[np.float64]:
    """Compute Cholesky factors [C, T, T] of the channels' covariances; zero if a channel never varies."""
    covariance = temporal_covariance(ordinal_view(stays.grids, stays.channels))
    varies = varying_channels(covariance)
    factors = np.zeros_like(covariance)
    factors[varies] = np.linalg.cholesky(covariance[varies])
    return factors


def _patterns(factor: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
    """Turn whitened patterns z [K, C, T] into patterns [K, T, C] in channel units."""
    return tf.einsum("cts,kcs->ktc", factor, z)
