"""How faint an attack an audit could miss: attacks are simulated on its stays, and looked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.stats import binomtest

from mimic3tf.defences.common_pattern.finding import FEWEST_SOUND, Stays
from mimic3tf.defences.detectors.common_pattern import EVEN, pattern_among
from mimic3tf.defences.evidence import Evidence
from mimic3tf.defences.verdict import FEWEST_TRUSTED, MISSES, OwnTest, alarm_of
from mimic3tf.poisoning.shifts import poison_grid
from mimic3tf.poisoning.trigger import generate_trigger, shifts_of
from mimic3tf.progress import track

STRENGTHS, SHARES = (0.5, 1.0, 2.0), (0.01, 0.05)
"""Strengths of the simulated attacks, and shares of the training stays that they poison."""


@dataclass(frozen=True)
class Power:
    """How often simulated attacks of one strength and share are found.

    Attributes:
        strength: strength of the attacks.
        share: share of the training stays that carry the trigger.
        simulated: number of attacks; each has its own trigger and stays.
        found: number of attacks that raise an alarm.
        low: lower end of the 95% interval of the probability of an alarm (Clopper and Pearson).
        high: its upper end.
        flagged: mean share of the poisoned stays that are flagged.
    """

    strength: float
    share: float
    simulated: int
    found: int
    low: float
    high: float
    flagged: float


def simulate_power(evidence: Evidence, draws: int, *, tests: int, seed: int) -> list[Power] | str:
    """Plant temporal triggers in training stays of the other label, and look for a common pattern.

    An attacker gives poisoned stays the suspected label, so that stays of the other label are sound. The
    triggers are drawn from the trusted stays. The training stays stay what they are otherwise: stays that
    are poisoned already make the simulated attacks easier or harder to find.

    Args:
        evidence: the training stays and the trusted stays.
        draws: attacks for each strength and share.
        tests: number of tests of the audit, by which p-values are corrected.
        seed: fixes the simulation.

    Returns:
        One entry for each strength and share, none without draws; or what the search for a pattern needs, if
        there are too few stays for it.
    """
    if not draws:
        return []
    cells = list(product(STRENGTHS, SHARES))
    results: dict[tuple[float, float], list[tuple[bool, float]]] = {cell: [] for cell in cells}
    for draw, (strength, share) in track([*product(range(draws), cells)], "Simulating attacks"):
        outcome = _attack(evidence, strength, share, tests=tests, seed=(seed + draw) % 2**32)
        if outcome is None:
            group = evidence.trusted.task.words.group
            return (
                f"the search for a common pattern needs {FEWEST_SOUND} {group[1 - evidence.suspected]}, "
                f"{FEWEST_TRUSTED} trusted {group[evidence.suspected]}, and channels that are measured"
            )
        results[strength, share].append(outcome)
    table = []
    for (strength, share), outcomes in results.items():
        found = sum(alarm for alarm, _ in outcomes)
        ends = binomtest(found, draws).proportion_ci(method="exact")
        flagged = float(np.mean([part for _, part in outcomes]))
        table.append(Power(strength, share, draws, found, float(ends.low), float(ends.high), flagged))
    return table


def _attack(
    evidence: Evidence, strength: float, share: float, *, tests: int, seed: int
) -> tuple[bool, float] | None:
    """Simulate one attack; return whether it raises an alarm, and the share of its stays that is flagged."""
    trusted, labels = evidence.trusted, evidence.labels.copy()
    others = np.flatnonzero(labels != evidence.suspected)
    size = min(max(1, int(len(labels) * share)), len(others))
    chosen = np.random.default_rng(seed).choice(others, size, replace=False)
    grids = evidence.grids.copy()
    grids[chosen] = poison_grid(
        grids[chosen],
        evidence.masks[chosen],
        shifts_of(generate_trigger(trusted, seed=seed), strength)[0],
        poison_imputed="notimputed",
        channels=trusted.channels,
    )
    labels[chosen] = evidence.suspected
    sound = Stays(trusted.grids, trusted.masks, trusted.labels)
    found = pattern_among(Stays(grids, evidence.masks, labels), sound, evidence, seed)
    if found is None or len(found.trusted) < FEWEST_TRUSTED:
        return None
    alarm = alarm_of(found.training, found.trusted, MISSES, OwnTest(EVEN, found.p_value))
    planted = np.isin(np.flatnonzero(labels == evidence.suspected), chosen)
    raised = replace(alarm, adjusted=found.p_value * tests).raised
    return raised, float((found.training[planted] > EVEN).mean())
