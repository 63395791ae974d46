from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils import resample

from mimic3tf.tasks.bootstrap import CELLS, RANKING, bootstrap, ranking_metrics
from mimic3tf.tasks.metrics import benchmark_metrics

LABELS = np.array([0, 0, 1, 0, 1, 1, 0, 0])
RISKS = np.array([0.1, 0.4, 0.4, 0.2, 0.9, 0.3, 0.3, 0.0])


@given(st.data())
def test_counted_predictions_are_measured_as_repeated_ones(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    risks = np.array(
        data.draw(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.5000001, 1.0]), min_size=count, max_size=count))
    )
    times = np.array(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))
    (measured,) = ranking_metrics(labels, risks, times[None])
    repeated = benchmark_metrics(np.repeat(labels, times), np.repeat(risks, times))
    np.testing.assert_allclose(measured, [repeated[name] for name in RANKING], rtol=1e-12)


def test_resamples_are_those_of_scikit_learn_in_the_benchmarks_scripts() -> None:
    np.random.seed(7)  # noqa: NPY002
    rows = np.stack([RISKS, LABELS], axis=1)
    drawn = [resample(rows) for _ in range(50)]
    scores = [benchmark_metrics(rows[:, 1].astype(int), rows[:, 0])["auprc"] for rows in drawn]
    found = bootstrap(LABELS, RISKS, resamples=50, seed=7)["auprc"]
    assert found.mean == pytest.approx(np.nanmean(scores))
    assert found.std == pytest.approx(np.nanstd(scores))
    assert [found.low, found.median, found.high] == pytest.approx(np.nanpercentile(scores, [2.5, 50, 97.5]))


def test_many_resamples_are_drawn_in_parts() -> None:
    draws = np.random.default_rng(0)
    labels, risks = draws.integers(0, 2, 2000), draws.random(2000)
    resamples = CELLS // 2000 + 3
    whole = bootstrap(labels, risks, resamples=resamples)["auroc"]
    generator = np.random.RandomState(0)
    times = np.stack(
        [np.bincount(generator.randint(0, 2000, 2000), minlength=2000) for _ in range(resamples)]
    )
    assert whole.mean == pytest.approx(ranking_metrics(labels, risks, times)[:, 0].mean())


def test_the_predictions_of_a_stay_are_drawn_together() -> None:
    """Ten equal predictions a stay say no more than one."""
    stays = np.arange(len(LABELS)).repeat(10)
    alone = bootstrap(LABELS, RISKS, resamples=300, seed=1)
    together = bootstrap(LABELS[stays], RISKS[stays], stay=stays, resamples=300, seed=1)
    apart = bootstrap(LABELS[stays], RISKS[stays], resamples=300, seed=1)
    for name in RANKING:
        assert together[name].std == pytest.approx(alone[name].std)
        assert apart[name].std < alone[name].std / 2


def test_a_seed_fixes_the_resamples() -> None:
    first, again, other = (bootstrap(LABELS, RISKS, resamples=100, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_the_interval_covers_as_often_as_it_says() -> None:
    """AUROC of risks that are N(1, 1) for deaths and N(0, 1) for survivors: Phi(1 / sqrt(2))."""
    truth = 0.5 * (1 + math.erf(0.5))
    draws = np.random.default_rng(5)
    labels = np.arange(200) % 4 == 0
    covered = []
    for _ in range(200):
        risks = draws.normal(labels.astype(float), 1.0)
        found = bootstrap(labels.astype(int), risks, resamples=200)["auroc"]
        covered.append(found.low <= truth <= found.high)
    assert 0.89 <= np.mean(covered) <= 0.98


def test_one_label_alone_has_no_metric() -> None:
    assert all(
        math.isnan(each.value) and math.isnan(each.low)
        for each in bootstrap(np.zeros(5, int), RISKS[:5]).values()
    )
