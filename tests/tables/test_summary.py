"""Means over seeds, and which trials a figure is about."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import ttest_1samp

from mimic3tf.report.counts import count_sweep, what_decides
from mimic3tf.tables.summary import main_grid, mean_over_seeds, strength_search


def success(invented: Any, rates: list[float], **changes: Any) -> list[dict[str, Any]]:
    return [invented.trial(seed=seed, attack_success_rate=rate, **changes) for seed, rate in enumerate(rates)]


def test_mean_and_interval_over_seeds(invented: Any) -> None:
    rates = [0.4, 0.5, 0.54, 0.6]
    rows = pl.DataFrame([*success(invented, rates), *success(invented, [0.9, 0.8], victim="mlp")])
    lr, mlp = mean_over_seeds(rows, ["victim"], "attack_success_rate").iter_rows(named=True)
    # The t test's own interval is the oracle.
    interval = ttest_1samp(rates, 0).confidence_interval(0.95)
    assert lr["mean"] == pytest.approx(0.51)
    assert (lr["ci95_low"], lr["ci95_high"]) == pytest.approx((interval.low, interval.high))
    assert (lr["seeds"], lr["lowest"], lr["highest"]) == (4, 0.4, 0.6)
    assert (mlp["seeds"], mlp["mean"]) == (2, pytest.approx(0.85))
    assert mlp["ci95_low"] is mlp["ci95_high"] is None


def test_an_interval_of_a_rate_stays_within_0_and_1(invented: Any) -> None:
    rows = pl.DataFrame(success(invented, [0.9, 1.0, 1.0]))
    (row,) = mean_over_seeds(rows, ["victim"], "attack_success_rate").iter_rows(named=True)
    assert row["ci95_high"] == 1.0
    assert 0.7 < row["ci95_low"] < 0.9


def test_rows_of_a_seed_are_averaged_before_seeds_are(invented: Any) -> None:
    rows = [
        invented.trial(seed=0, strength=1.0, attack_success_rate=0.2),
        invented.trial(seed=0, strength=2.0, attack_success_rate=0.4),
        invented.trial(seed=1, attack_success_rate=0.9),
    ]
    (row,) = mean_over_seeds(pl.DataFrame(rows), ["victim"], "attack_success_rate").iter_rows(named=True)
    assert (row["seeds"], row["mean"]) == (2, pytest.approx(0.6))


def test_the_grid_is_neither_search_nor_counts_nor_other_triggers(invented: Any) -> None:
    paper = pl.DataFrame(invented.paper())
    rows = pl.DataFrame([*invented.paper(), *invented.search(), *invented.counts()]).unique(
        ["trial", "poison_imputed", "poisoning_strength", "trigger"], maintain_order=True
    )
    grid = main_grid(rows)
    assert set(grid["poisoning_proportion"]) == {0.0, 0.01, 0.02, 0.03, 0.04, 0.05}
    assert set(grid["poisoning_strength"]) == {0.5, 1.0, 1.5, 2.0}
    assert grid.sort(pl.all()).equals(paper.filter(pl.col("trigger") == "temporal").sort(pl.all()))


def test_the_search_is_the_proportion_with_the_widest_strengths(invented: Any) -> None:
    search = strength_search(pl.DataFrame([*invented.paper(), *invented.search()]))
    assert search is not None
    assert set(search["poisoning_proportion"]) == {0.0, 0.05}
    assert search["poisoning_strength"].min() == 1e-5
    assert strength_search(pl.DataFrame(invented.paper())) is None


def test_what_is_made_by_the_count_is_ordered_by_the_count(invented: Any) -> None:
    rows = [
        invented.trial(proportion=share, stays=stays, attack_success_rate=1 - 1 / (1 + int(stays * share)))
        for stays in (1000, 2000, 4000)
        for share in (0.01, 0.02, 0.05)
    ]
    counts = count_sweep(pl.DataFrame(rows))
    assert counts is not None
    (row,) = what_decides(counts).iter_rows(named=True)
    assert row["with_count"] == pytest.approx(1.0)
    # Counts by rising share: 10, 20, 40, 20, 40, 80, 50, 100, 200. Ties share their mean rank.
    share = [2, 2, 2, 5, 5, 5, 8, 8, 8]
    count = [1, 2.5, 4.5, 2.5, 4.5, 7, 6, 8, 9]
    assert row["with_share"] == pytest.approx(np.corrcoef(share, count)[0, 1])


def test_one_size_of_training_set_decides_nothing(invented: Any) -> None:
    assert count_sweep(pl.DataFrame(invented.paper())) is None
