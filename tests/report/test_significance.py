"""Paired differences: what is a pair, and what its interval is."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import polars as pl
import pytest

from mimic3tf.report.significance import bootstrap_interval, compare_settings, paired_differences


def comparison(results: list[dict[str, Any]], difference: str, **where: str) -> dict[str, Any]:
    """The one row of a comparison."""
    table = compare_settings(pl.DataFrame(results)).filter(pl.col("difference") == difference)
    (row,) = table.filter(*(pl.col(name) == value for name, value in where.items())).iter_rows(named=True)
    return row


def test_the_interval_of_three_pairs_is_what_all_27_resamples_give() -> None:
    differences = np.array([0.1, 0.2, 0.6])
    means = [np.mean(resample) for resample in product(differences, repeat=3)]
    low, high = bootstrap_interval(differences)  # type: ignore[misc]
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975], method="inverted_cdf")))
    assert (low, high) == pytest.approx((0.1, 0.6))


def test_the_interval_of_many_pairs_is_close_to_the_normal_one() -> None:
    differences = np.random.default_rng(3).normal(0.1, 0.05, 200)
    half = 1.96 * differences.std() / np.sqrt(200)
    expected = (differences.mean() - half, differences.mean() + half)
    assert bootstrap_interval(differences) == pytest.approx(expected, abs=half / 10)


def test_the_interval_is_the_same_twice_and_none_below_three_pairs() -> None:
    differences = np.array([0.1, 0.2, 0.6, 0.7])
    assert bootstrap_interval(differences) == bootstrap_interval(differences)
    assert bootstrap_interval(differences[:2]) is None


def test_pairs_agree_in_everything_but_the_setting() -> None:
    first = pl.DataFrame({"seed": [0, 1, 2], "strength": [1.0, 1.0, 2.0], "rate": [0.5, 0.75, None]})
    second = pl.DataFrame(
        {"seed": [1, 0, 2, 3], "strength": [1.0, 2.0, 2.0, 1.0], "rate": [0.5, 0.1, 0.1, 0.1]}
    )
    pairs = paired_differences(first, second, "rate", ["seed", "strength"])
    assert pairs.rows() == [(1, 1.0, 0.25)]


def test_modes_that_differ_by_a_known_amount(invented: Any) -> None:
    rows = [
        invented.trial(
            "lr", mode, proportion, strength, seed,
            attack_success_rate=0.5 + 0.1 * seed + (0.2 + 0.01 * seed if mode == "all" else 0.0),
        )
        for mode, proportion, strength, seed in product(invented.modes, (0.01, 0.05), (1.0, 2.0), range(3))
    ]  # fmt: skip
    row = comparison(rows, "all - notimputed")
    assert (row["victim"], row["pairs"], row["seeds"]) == ("lr", 12, 3)
    assert row["mean_difference"] == pytest.approx(0.21)
    assert (row["lowest_seed"], row["highest_seed"]) == pytest.approx((0.20, 0.22))
    assert 0.2 < row["ci95_low"] < 0.21 < row["ci95_high"] < 0.22
    assert row["differs_from_zero"] == "in all 3 seeds"


@pytest.mark.parametrize(
    ("by_seed", "verdict"),
    [
        ((0.1, 0.2, 0.3), "in all 3 seeds"),
        ((-0.1, -0.2, -0.3), "in all 3 seeds"),
        ((0.1, -0.2, 0.1), "no"),
        ((0.1, 0.2), "no interval: fewer than 3 pairs"),
    ],
)
def test_the_verdict_on_one_setting(invented: Any, by_seed: tuple[float, ...], verdict: str) -> None:
    rows = [
        invented.trial(trigger=trigger, seed=seed, attack_success_rate=0.5 + gain * (trigger == "temporal"))
        for trigger in ("temporal", "gaussian")
        for seed, gain in enumerate(by_seed)
    ]
    row = comparison(rows, "temporal - gaussian")
    assert row["mean_difference"] == pytest.approx(np.mean(by_seed))
    assert row["differs_from_zero"] == verdict
    assert (row["ci95_low"] is None) == (len(by_seed) < 3)


@pytest.mark.parametrize(
    ("gains", "verdict"), [((0.2, 0.2, -0.01), "no: seeds disagree"), ((0.2,), "in its one seed")]
)
def test_pairs_of_a_few_seeds_do_not_pass_for_many(
    invented: Any, gains: tuple[float, ...], verdict: str
) -> None:
    rows = [
        invented.trial(
            "lr", mode, proportion, 2.0, seed,
            attack_success_rate=0.5 + gains[seed] * (mode == "all"),
        )
        for mode, proportion, seed in product(
            invented.modes, (0.01, 0.02, 0.03, 0.04, 0.05), range(len(gains))
        )
    ]  # fmt: skip
    row = comparison(rows, "all - notimputed")
    assert row["ci95_low"] > 0
    assert row["differs_from_zero"] == verdict


def test_poisoned_victims_are_paired_with_the_clean_one_of_their_seed(invented: Any) -> None:
    rows = [
        invented.trial("lr", "all", proportion, strength, seed, clean_auroc=0.7 + 0.05 * seed - proportion)
        for proportion, strength, seed in product((0.0, 0.02, 0.04), (1.0, 2.0), range(3))
    ]
    row = comparison(rows, "poisoned - clean")
    assert (row["measure"], row["pairs"]) == ("AUROC", 12)
    assert row["mean_difference"] == pytest.approx(-0.03)
    assert row["ci95_high"] < 0


def test_victims_are_compared_within_a_mode(invented: Any) -> None:
    rate = {("lr", "all"): 0.5, ("lr", "notimputed"): 0.4, ("lstm", "all"): 0.9, ("lstm", "notimputed"): 0.3}
    rows = [
        invented.trial(victim, mode, seed=seed, attack_success_rate=value)
        for (victim, mode), value in rate.items()
        for seed in range(3)
    ]
    assert comparison(rows, "LSTM - LR", poison_imputed="all")["mean_difference"] == pytest.approx(0.4)
    assert comparison(rows, "LSTM - LR", poison_imputed="notimputed")["mean_difference"] == pytest.approx(
        -0.1
    )


def test_search_and_counts_do_not_weigh_on_the_grid(invented: Any) -> None:
    grid = compare_settings(pl.DataFrame(invented.paper()))
    every = pl.DataFrame([*invented.paper(), *invented.search(), *invented.counts()]).unique(
        ["trial", "poison_imputed", "poisoning_strength", "trigger"], maintain_order=True
    )
    modes = pl.col("difference") == "all - notimputed"
    assert compare_settings(every).filter(modes).equals(grid.filter(modes))
