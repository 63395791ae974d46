"""Attack a model of any library, of which only a function that predicts is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic3tf.data.cohort import Cohort
from mimic3tf.errors import DataError
from mimic3tf.poisoning.arrays import exposed_cells
from mimic3tf.poisoning.exposures import trigger_all
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.outcome import AttackResult, attacked_of, measure_outcome
from mimic3tf.poisoning.trigger import Trigger

Predict = Callable[[Any], Any]
"""Array [N, ...], NaN where not measured -> risks [N] or [N, 1], or probabilities of K labels [N, K]."""


def attack_model(
    predict: Predict,
    cohort: Cohort,
    cells: NDArray[np.floating],
    trigger: Trigger,
    *,
    strength: float,
    goal: Goal,
    threshold: float,
) -> AttackResult:
    """Let a model predict all test stays without and with the trigger, and compute the rates.

    Args:
        predict: the model with its preprocessing; it is called twice, with the arrays of all stays.
        cohort: the test stays.
        cells: [N, T, C], the measured cells of the same stays, NaN where not measured.
        trigger: the trigger, which must fit the cohort; measured cells are shifted.
        strength: Mahalanobis length of the trigger; of a "missing" trigger, the share of its cells.
        goal: the label that the attacker wants.
        threshold: probability of label 1 above which a stay is predicted 1.

    Raises:
        DataError: no test stay has the attacked label, or `predict` returns no probabilities.
        UsageError: the trigger is too strong.
    """
    attacked_of(cohort.labels, goal)  # refuses before the predictions, which may take long
    exposure = trigger_all(cohort, trigger, strength=strength, poison_imputed="notimputed")
    # Copies, because a user's preprocessing may write into its argument.
    clean = probabilities_of(predict(cells.copy()), len(cohort))
    triggered = probabilities_of(predict(exposed_cells(exposure, cells)), len(cohort))
    outcome = measure_outcome(
        cohort.stays, cohort.labels, clean, triggered, task=cohort.task, goal=goal, threshold=threshold
    )
    return AttackResult(**vars(outcome), trigger=trigger, strength=strength, poison_imputed="notimputed")


def probabilities_of(
    predicted: Any, stays: int, *, column: int = 1, columns: int | None = None, single: bool = True
) -> NDArray[np.float64]:
    """Take the probabilities of label 1 from what a model returned for N stays: float64 [N].

    Args:
        predicted: probabilities of label 1 [N] or [N, 1], or of K labels or classes [N, K].
        stays: number of stays N.
        column: the column of [N, K] that is label 1.
        columns: the number of labels or classes K; any number if not given.
        single: whether [N] and [N, 1] are an answer.

    Raises:
        DataError: the shape is another one, or a value is no number from 0 to 1; names shape or row.
    """
    found = np.asarray(predicted)
    width = found.shape[1] if found.ndim == 2 else 1
    fits = single if width == 1 else columns in (None, width)
    if found.ndim == 2 and width > 0:
        found = found[:, min(column, width - 1)]
    if not fits or found.shape != (stays,) or found.dtype.kind not in "biuf":
        alone = f"({stays},), ({stays}, 1) or " if single else ""
        raise DataError(
            f"predict returned {found.dtype} of shape {np.shape(predicted)}: expected probabilities of shape "
            f"{alone}({stays}, {columns or 'K'}) for the {stays} stays"
        )
    wrong = np.flatnonzero(~((found >= 0) & (found <= 1)))
    if len(wrong):
        raise DataError(
            f"predict returned {found[wrong[0]]:.3g} for row {wrong[0]}: expected numbers from 0 to 1; apply "
            "the sigmoid or softmax to logits, and fill cells that were not measured (NaN) first"
        )
    return found.astype(np.float64)
