"""Detectors of poisoned stays: at chance without a trigger, certain with a grotesque one."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.spatial.distance import mahalanobis

from mimic3tf import pipeline
from mimic3tf.attack.stealth import channel_distances, measure_stealth
from mimic3tf.attack.trigger import generate_trigger, temporal_covariance
from mimic3tf.channels import CHANNELS
from mimic3tf.cli.main import main
from mimic3tf.data.cohort import Cohort, load_cohort
from mimic3tf.data.grid import ordinal_view
from mimic3tf.errors import UsageError
from mimic3tf.report.stealth import summarize_stealth
from mimic3tf.sources.synthetic import prepare_synthetic

DETECTORS = ("mahalanobis_auroc", "isolation_forest_auroc", "supervised_auroc")
PROPORTION = 0.2
NAMES = [channel.name for channel in CHANNELS]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stealth") / "data"
    prepare_synthetic(folder, stays=360, seed=3)
    return folder


@pytest.fixture(scope="module")
def cohort(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_cohort(data, "train")


def measure(cohort: Cohort, **changes: Any) -> pl.DataFrame:
    settings: dict[str, Any] = {
        "kinds": ["temporal"],
        "strengths": [300.0],
        "modes": ["notimputed"],
        "proportion": PROPORTION,
        "seeds": [0],
    }
    return measure_stealth(cohort, **settings | changes)


@pytest.fixture(scope="module")
def findings(cohort: Cohort) -> pl.DataFrame:
    """The control and a grotesque strength in both modes."""
    return measure(cohort, modes=["notimputed", "all"])


def value(findings: pl.DataFrame, measure: str, channel: str | None = None, **setting: Any) -> float:
    """The one number of a setting; of the grid and of the control unless said otherwise."""
    wanted = {"trigger": "none", "representation": "48x17", "measure": measure} | setting
    rows = findings.filter(*(pl.col(name) == wish for name, wish in wanted.items()))
    return rows.filter(pl.col("channel").eq_missing(pl.lit(channel))).get_column("value").item()


def poisoned_grid(cohort: Cohort, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Ordinal grids with a temporal trigger in measured cells, and which stays carry it."""
    trigger = generate_trigger(cohort, seed=0).values
    exposure = pipeline.poison(
        cohort, trigger, proportion=PROPORTION, strength=strength, poison_imputed="notimputed"
    )
    return ordinal_view(pipeline.grids_of(exposure, np.arange(len(cohort)))), exposure.triggered


def test_without_a_trigger_no_detector_tells_the_stays_apart(findings: pl.DataFrame) -> None:
    band = value(findings, "chance_band")
    assert 0.07 < band < 0.1  # 50 poisoned of 252: 1.96 * sqrt(253 / (12 * 50 * 202))
    for detector in DETECTORS:
        for representation in ("48x17", "714"):
            assert abs(value(findings, detector, representation=representation) - 0.5) < 1.5 * band
    assert value(findings, "imputation_auroc") == 0.5
    assert value(findings, "implausible_share_poisoned") == 0.0
    assert value(findings, "ks_statistic") < 0.15
    assert value(findings, "ks_share_of_channels") == 0.0


@pytest.mark.parametrize("mode", ["notimputed", "all"])
def test_a_grotesque_trigger_is_found_by_every_detector(findings: pl.DataFrame, mode: str) -> None:
    setting = {"trigger": "temporal", "poison_imputed": mode}
    for detector in DETECTORS:
        for representation in ("48x17", "714"):
            assert value(findings, detector, representation=representation, **setting) > 0.99
    assert value(findings, "implausible_auroc", **setting) > 0.99
    assert value(findings, "implausible_share_poisoned", **setting) > 0.2
    assert value(findings, "implausible_share_clean", **setting) == 0.0
    assert value(findings, "imputation_auroc", **setting) == 1.0
    assert value(findings, "ks_share_of_channels", **setting) > 0.5


def test_a_stronger_trigger_is_easier_to_find(cohort: Cohort) -> None:
    found = measure(cohort, strengths=[1.0, 4.0])
    weak, strong = (
        value(found, "mahalanobis_median_poisoned", trigger="temporal", poisoning_strength=s)
        for s in (1.0, 4.0)
    )
    assert value(found, "mahalanobis_median_poisoned") < weak < strong


def test_notimputed_leaves_stays_without_measurements_as_they_are(cohort: Cohort) -> None:
    assert cohort.filled is not None
    unmeasured = replace(
        cohort,
        mask=np.zeros_like(cohort.mask),
        filled=replace(cohort.filled, source=np.full_like(cohort.filled.source, -1)),
    )
    found = measure(unmeasured, modes=["notimputed", "all"])
    columns = ("representation", "channel", "measure", "value")
    control = found.filter(trigger="none").select(columns)
    assert found.filter(trigger="temporal", poison_imputed="notimputed").select(columns).equals(control)
    assert value(found, "supervised_auroc", trigger="temporal", poison_imputed="all") > 0.99
    assert "ks_statistic" not in found["measure"]  # no cell is measured


def test_shares_and_ks_statistics_equal_a_count_cell_by_cell(cohort: Cohort) -> None:
    found = measure(cohort, strengths=[8.0])
    grid, poisoned = poisoned_grid(cohort, 8.0)
    for name, low, high in (("Heart Rate", 15, 300), ("Oxygen saturation", 30, 100), ("pH", 6.5, 8)):
        i = NAMES.index(name)
        ours, theirs = (grid[stays, :, i][cohort.mask[stays, :, i]] for stays in (poisoned, ~poisoned))
        share = np.mean([not low <= x <= high for x in ours])
        points = np.concatenate([ours, theirs])
        ecdf = [np.array([(group <= x).mean() for x in points]) for group in (ours, theirs)]
        setting = {"channel": name, "trigger": "temporal"}
        assert value(found, "implausible_share_poisoned", **setting) == pytest.approx(share)
        assert value(found, "ks_statistic", **setting) == pytest.approx(np.abs(ecdf[0] - ecdf[1]).max())


def test_a_value_at_the_edge_of_its_range_is_plausible(cohort: Cohort) -> None:
    # Grids are float32, where 0.21 is less than the double 0.21.
    values = cohort.values.copy()
    values[..., NAMES.index("Fraction inspired oxygen")] = 0.21
    found = measure(replace(cohort, values=values), strengths=[0.0])
    assert value(found, "implausible_share_clean", "Fraction inspired oxygen") == 0.0


def test_channel_distances_equal_scipys(cohort: Cohort) -> None:
    ordinal, _ = poisoned_grid(cohort, 2.0)
    reference = np.arange(len(cohort)) >= 100
    distances = channel_distances(ordinal, reference)
    covariance = temporal_covariance(ordinal[reference])
    for i, name in enumerate(NAMES):
        column = ordinal[..., i]
        if not np.ptp(column[reference]):
            assert np.isnan(distances[:, i]).all(), name
            continue
        center, precision = column[reference].mean(axis=0), np.linalg.inv(covariance[i])
        expected = [mahalanobis(stay, center, precision) for stay in column[:5]]
        np.testing.assert_allclose(distances[:5, i], expected, rtol=1e-6)


def test_a_setting_does_not_depend_on_what_else_is_measured(cohort: Cohort) -> None:
    together = measure(cohort, kinds=["covariance", "gaussian"], strengths=[2.0, 1.0], seeds=[5, 1])
    alone = measure(cohort, kinds=["gaussian"], strengths=[1.0], seeds=[1])
    kept = (pl.col("seed") == 1) & pl.col("trigger").is_in(["none", "gaussian"])
    assert together.filter(kept, pl.col("poisoning_strength") < 2).equals(alone)


def test_a_summary_has_the_mean_over_seeds(cohort: Cohort) -> None:
    found = measure(cohort, strengths=[1.0], seeds=[0, 1])
    (forest,) = summarize_stealth(found).filter(trigger="temporal")["isolation_forest_auroc 714"]
    seeds = [
        value(found, "isolation_forest_auroc", trigger="temporal", representation="714", seed=s)
        for s in (0, 1)
    ]
    assert seeds[0] != seeds[1]
    assert forest == pytest.approx(np.mean(seeds))


@pytest.mark.parametrize(("proportion", "what"), [(0.01, "poisoned"), (1.0, "clean")])
def test_too_few_stays_of_a_kind_are_refused(cohort: Cohort, proportion: float, what: str) -> None:
    with pytest.raises(UsageError, match=f"--poisoning_proportion {proportion:g}: makes .* {what}"):
        measure(cohort, proportion=proportion)


def test_a_strength_that_overflows_is_refused(cohort: Cohort) -> None:
    with pytest.raises(UsageError, match="too strong"):
        measure(cohort, strengths=[1e300])


# --- The command --------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mimic3tf", "stealth", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            status: Any = 0
        except SystemExit as end:
            status = end.code or 0
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_the_command_writes_every_number_and_prints_a_table(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--kind", "temporal", "--poisoning-strength", 2, "--poison-imputed", "all")
    status, out, err = run(
        capsys, "--data", data, "--out", tmp_path / "s", "--poisoning_proportion", 0.2, *options
    )
    assert status == 0, err
    with (tmp_path / "s" / "stealth.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    settings = {(row["trigger"], row["poison_imputed"], row["poisoning_strength"]) for row in rows}
    assert settings == {("none", "none", "0.0"), ("temporal", "all", "2.0")}
    assert {row["poisoning_proportion"] for row in rows} == {"0.2"}
    heart = {row["measure"] for row in rows if row["channel"] == "Heart Rate"}
    assert {"ks_statistic", "ks_p_value", "mahalanobis_auroc", "implausible_share_poisoned"} <= heart
    (row,) = (r for r in rows if r["trigger"] != "none" and r["measure"] == "imputation_auroc")
    assert float(row["value"]) == 1.0
    assert "1.000" in next(line for line in out.splitlines() if "temporal" in line)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--kind", "temporary"),
        ("--poison_imputed", "some"),
        ("--poisoning_strength", "-1"),
        ("--poisoning_strength", "nan"),
        ("--poisoning_proportion", "1.5"),
        ("--poisoning_proportion", "0.001"),
        ("--seed", "-1"),
    ],
)
def test_a_wrong_option_is_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    status, _, err = run(capsys, "--data", data, "--out", tmp_path / "s", option, value)
    assert status == 2
    assert option in err
    assert "Traceback" not in err
    assert not (tmp_path / "s").exists()


def test_help_is_quick_to_import() -> None:
    code = (
        "import sys; import mimic3tf.cli.main; print({'tensorflow', 'sklearn', 'scipy'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "set()"
