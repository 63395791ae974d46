"""The course of synthetic stays that are read as a whole: their length, their end, and their diagnoses.

What it models, coarsely: the sicker a patient, the longer the stay. Most patients who die do so in the ICU,
which ends the stay; the others within ten days after it. In the last day and a half before a death, vital
signs get worse. Four hidden tendencies (to sepsis, to heart disease, to metabolic disease, to other disease
of organs) make some of the 25 diagnoses occur together, each about as often as in MIMIC-III. A diagnosis
moves one or two signals by about as much as patients differ.

It shows that the machinery works, and nothing about patients: lengths, deaths, diagnoses and their effects
are invented, and what a model or an attack achieves here says nothing about what it achieves on records of
patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mimic3tf.described import Described
from mimic3tf.tasks.phenotypes import PHENOTYPES

Floats = NDArray[np.float64]
Minutes = NDArray[np.int64]

SHORTEST, LONGEST = 6 * 60, 20 * 24 * 60
"""Length of the shortest and of the longest stay in minutes."""
MEDIAN_HOURS, SPREAD, SEVERITY = 54.0, 0.6, 0.5
"""Median length of a stay of average severity; standard deviation of the logarithm of the length; and by how
much severity moves this logarithm."""
DECLINE_MINUTES = 36 * 60
"""Minutes before a death in which vital signs get worse."""
DECLINE = {"tone": -20.0, "Heart Rate": 18.0, "Oxygen saturation": -4.0, "Respiratory rate": 6.0, "pH": -0.1}
"""Signal -> by how much it has changed at the time of death."""
NO_DEATH = np.iinfo(np.int64).max
"""Minute of death of a patient who does not die in hospital."""


@dataclass(frozen=True)
class Diagnosis:
    """One of the 25 diagnoses.

    Attributes:
        share: share of the stays that have it.
        tendency: which of the four hidden tendencies makes it more frequent.
        effects: signal -> by how much it moves the level of the signal, in the unit of the signal.
    """

    share: float
    tendency: int
    effects: Mapping[str, float]


# Shares of MIMIC-III's training stays (Harutyunyan et al. 2019); effects are invented.
DIAGNOSES = dict(
    zip(
        PHENOTYPES,
        (
            Diagnosis(0.214, 0, {"pH": -0.05}),
            Diagnosis(0.075, 3, {"coma": 0.8, "tone": 14}),
            Diagnosis(0.103, 1, {"Heart Rate": 8, "tone": -8}),
            Diagnosis(0.321, 1, {"Heart Rate": 10}),
            Diagnosis(0.134, 2, {"pH": -0.03, "tone": 8}),
            Diagnosis(0.131, 3, {"Oxygen saturation": -1.8, "Respiratory rate": 2}),
            Diagnosis(0.207, 0, {"Temperature": 0.3}),
            Diagnosis(0.072, 1, {"Heart Rate": -16}),
            Diagnosis(0.268, 1, {"Respiratory rate": 2, "Oxygen saturation": -0.8}),
            Diagnosis(0.322, 1, {"tone": 6}),
            Diagnosis(0.095, 2, {"Glucose": 60}),
            Diagnosis(0.193, 2, {"Glucose": 35}),
            Diagnosis(0.291, 2, {"tone": 5}),
            Diagnosis(0.419, 2, {"tone": 9}),
            Diagnosis(0.269, 0, {"pH": -0.03}),
            Diagnosis(0.072, 3, {"Heart Rate": 12, "tone": -10}),
            Diagnosis(0.133, 2, {"tone": 14}),
            Diagnosis(0.089, 3, {"Temperature": -0.4, "tone": -8}),
            Diagnosis(0.051, 3, {"Respiratory rate": 3}),
            Diagnosis(0.040, 3, {"Respiratory rate": 3}),
            Diagnosis(0.087, 0, {"Oxygen saturation": -1.5}),
            Diagnosis(0.139, 0, {"Temperature": 0.6, "Respiratory rate": 3}),
            Diagnosis(0.181, 0, {"Fraction inspired oxygen": 0.12, "Oxygen saturation": -1.5}),
            Diagnosis(0.143, 0, {"Temperature": 0.7, "Heart Rate": 10}),
            Diagnosis(0.078, 0, {"tone": -20, "Heart Rate": 8}),
        ),
        strict=True,
    )
)
TENDENCIES = 1 + max(diagnosis.tendency for diagnosis in DIAGNOSES.values())


@dataclass(frozen=True, repr=False)
class Course(Described):
    """The course of n stays.

    Attributes:
        minutes: int64 [n], length of the stay.
        death: int64 [n], minute of the death in hospital, `NO_DEATH` without one.
        diagnoses: int64 [n, 25], 1 where a stay has the diagnosis.
    """

    minutes: Minutes
    death: Minutes
    diagnoses: NDArray[np.int64]

    def ending(self, dies: NDArray[np.bool_], rng: np.random.Generator) -> Course:
        """Let some patients die, most of them at the end of their stay and the others later."""
        later = (rng.random(len(dies)) < 0.25) * rng.integers(60, 10 * 24 * 60, len(dies))
        return replace(self, death=np.where(dies, self.minutes + later, NO_DEATH))

    def changes(self, visits: Mapping[str, Minutes]) -> dict[str, Floats]:
        """Compute how diagnoses and a near death change the signals: [n, 1] or [n, K] for `visits` [n, K]."""
        changes: dict[str, Floats] = {name: np.zeros((len(self.minutes), 1)) for name in visits}
        for has, diagnosis in zip(self.diagnoses.T, DIAGNOSES.values(), strict=True):
            for name, effect in diagnosis.effects.items():
                # Without the share, a diagnosis would move the mean of all patients.
                changes[name] = changes[name] + effect * (has[:, None] - diagnosis.share)
        for name, worst in DECLINE.items():
            left = self.death[:, None].astype(np.float64) - visits[name]
            changes[name] = changes[name] + worst * np.clip(1 - left / DECLINE_MINUTES, 0, 1)
        return changes


def first_hours(n: int, minutes: int) -> Course:
    """Make the course of n stays of which the same minutes are read; nothing else is known of them."""
    return Course(
        np.full(n, minutes, np.int64),
        np.full(n, NO_DEATH, np.int64),
        np.zeros((n, len(DIAGNOSES)), np.int64),
    )


def draw_course(severity: Floats, rng: np.random.Generator) -> Course:
    """Draw lengths and diagnoses of stays with a hidden severity [n]; nobody dies yet."""
    n = len(severity)
    hours = MEDIAN_HOURS * np.exp(SPREAD * rng.standard_normal(n) + SEVERITY * severity)
    minutes = np.clip(np.ceil(60 * hours), SHORTEST, LONGEST).astype(np.int64)
    tendencies = rng.standard_normal((n, TENDENCIES))
    # Sepsis and what comes with it are more frequent in the sickest.
    tendencies[:, 0] = 0.8 * tendencies[:, 0] + 0.6 * severity
    diagnoses = [
        0.6 * tendencies[:, each.tendency] + 0.8 * rng.standard_normal(n)
        > NormalDist().inv_cdf(1 - each.share)
        for each in DIAGNOSES.values()
    ]
    return Course(minutes, np.full(n, NO_DEATH, np.int64), np.stack(diagnoses, axis=1).astype(np.int64))


def joined(courses: Sequence[Course]) -> Course:
    """Join the courses of several batches of stays."""
    return Course(
        np.concatenate([course.minutes for course in courses]),
        np.concatenate([course.death for course in courses]),
        np.concatenate([course.diagnoses for course in courses]),
    )
