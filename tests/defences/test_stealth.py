"""Detectors of poisoned stays: at chance without a trigger, certain with a grotesque one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.spatial.distance import mahalanobis

from mimic3tf import pipeline
from mimic3tf.channels import MIMIC3
from mimic3tf.cli.main import main
from mimic3tf.data.cohort import Cohort
from mimic3tf.data.grid import ordinal_view
from mimic3tf.data.loading import load_cohort
from mimic3tf.defences.stealth import channel_distances, measure_stealth
from mimic3tf.errors import UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.patterns import temporal_covariance
from mimic3tf.poisoning.trigger import generate_trigger
from mimic3tf.tables.stealth import summarize_stealth

DETECTORS = ("mahalanobis_auroc", "isolation_forest_auroc", "supervised_auroc")
PROPORTION = 0.2
FAINT, GROTESQUE = 2.0, 300.0
NAMES = list(MIMIC3.names)


@pytest.fixture(scope="module")
def data(small_cohort: Callable[[int, int], Path]) -> Path:
    return small_cohort(360, 3)


@pytest.fixture(scope="module")
def cohort(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_cohort(data, "train")


def measure(cohort: Cohort, **changes: Any) -> pl.DataFrame:
    settings: dict[str, Any] = {
        "kinds": ["temporal"],
        "strengths": [GROTESQUE],
        "modes": ["notimputed"],
        "proportion": PROPORTION,
        "seeds": [0],
    }
    return measure_stealth(cohort, **settings | changes)


@pytest.fixture(scope="module")
def findings(cohort: Cohort) -> pl.DataFrame:
    """The control, a faint and a grotesque strength in both modes."""
    return measure(cohort, strengths=[FAINT, GROTESQUE], modes=["notimputed", "all"])


def value(findings: pl.DataFrame, measure: str, channel: str | None = None, **setting: Any) -> float:
    """The one number of a setting; of the grid and of the control unless said otherwise."""
    wanted = {"trigger": "none", "representation": "grid", "measure": measure} | setting
    rows = findings.filter(*(pl.col(name) == wish for name, wish in wanted.items()))
    return rows.filter(pl.col("channel").eq_missing(pl.lit(channel))).get_column("value").item()


def poisoned_grid(cohort: Cohort, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Ordinal grids with a temporal trigger in measured cells, and which stays carry it."""
    trigger = generate_trigger(cohort, seed=0)
    exposure = exposures.poison(
        cohort, trigger, proportion=PROPORTION, strength=strength, poison_imputed="notimputed"
    )
    grids = pipeline.grids_of(exposure, np.arange(len(cohort)))
    return ordinal_view(grids, MIMIC3), exposure.triggered


def test_without_a_trigger_no_detector_tells_the_stays_apart(findings: pl.DataFrame) -> None:
    band = value(findings, "chance_band")
    assert 0.07 < band < 0.1  # 50 poisoned of 252: 1.96 * sqrt(253 / (12 * 50 * 202))
    for detector in DETECTORS:
        for representation in ("grid", "features"):
            assert abs(value(findings, detector, representation=representation) - 0.5) < 1.5 * band
    assert value(findings, "imputation_auroc") == 0.5
    assert value(findings, "implausible_share_poisoned") == 0.0
    assert value(findings, "ks_statistic") < 0.15
    assert value(findings, "ks_share_of_channels") == 0.0


@pytest.mark.parametrize("mode", ["notimputed", "all"])
def test_a_grotesque_trigger_is_found_by_every_detector(findings: pl.DataFrame, mode: str) -> None:
    setting: dict[str, Any] = {"trigger": "temporal", "poison_imputed": mode, "poisoning_strength": GROTESQUE}
    for detector in DETECTORS:
        for representation in ("grid", "features"):
            found = value(findings, detector, representation=representation, **setting)
            # Two of them learn from no more than 50 poisoned stays.
            assert found > (0.99 if detector == "mahalanobis_auroc" else 0.95), (detector, representation)
    assert value(findings, "implausible_auroc", **setting) > 0.99
    assert value(findings, "implausible_share_poisoned", **setting) > 0.2
    assert value(findings, "implausible_share_clean", **setting) == 0.0
    assert value(findings, "imputation_auroc", **setting) == 1.0
    assert value(findings, "ks_share_of_channels", **setting) > 0.5
    distances = [
        value(findings, "mahalanobis_median_poisoned", **changes)
        for changes in ({}, setting | {"poisoning_strength": FAINT}, setting)
    ]
    assert distances == sorted(distances)


def test_notimputed_leaves_stays_without_measurements_as_they_are(cohort: Cohort) -> None:
    assert cohort.filled is not None
    unmeasured = replace(
        cohort,
        mask=np.zeros_like(cohort.mask),
        filled=replace(cohort.filled, source=np.full_like(cohort.filled.source, -1)),
    )
    found = measure(unmeasured)
    columns = ("representation", "channel", "measure", "value")
    control = found.filter(trigger="none").select(columns)
    assert found.filter(trigger="temporal", poison_imputed="notimputed").select(columns).equals(control)
    assert "ks_statistic" not in found["measure"]  # no cell is measured


def test_shares_and_ks_statistics_equal_a_count_cell_by_cell(cohort: Cohort, findings: pl.DataFrame) -> None:
    grid, poisoned = poisoned_grid(cohort, FAINT)
    oxygen = cohort.grids[..., NAMES.index("Fraction inspired oxygen")]
    # In float32, as grids are, this edge of a plausible range is less than the double 0.21.
    assert (oxygen == np.float32(0.21)).any()
    assert value(findings, "implausible_share_clean", "Fraction inspired oxygen") == 0.0
    for name, low, high in (("Heart Rate", 15, 300), ("Oxygen saturation", 30, 100), ("pH", 6.5, 8)):
        i = NAMES.index(name)
        ours, theirs = (grid[stays, :, i][cohort.masks[stays, :, i]] for stays in (poisoned, ~poisoned))
        share = np.mean([not low <= x <= high for x in ours])
        points = np.concatenate([ours, theirs])
        ecdf = [np.array([(group <= x).mean() for x in points]) for group in (ours, theirs)]
        setting: dict[str, Any] = {"channel": name, "trigger": "temporal", "poisoning_strength": FAINT}
        for mode in ("notimputed", "all"):  # measured cells are shifted alike
            shared = value(findings, "implausible_share_poisoned", poison_imputed=mode, **setting)
            assert shared == pytest.approx(share)
            statistic = value(findings, "ks_statistic", poison_imputed=mode, **setting)
            assert statistic == pytest.approx(np.abs(ecdf[0] - ecdf[1]).max())


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


def test_the_command_writes_what_is_measured_whatever_else_is_measured(
    findings: pl.DataFrame, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tables"
    options = ("--kind", "temporal", "--poisoning-strength", GROTESQUE, "--poison-imputed", "all")
    status, printed, err = run(capsys, "--data", data, "--out", out, "--poisoning_proportion", 0.2, *options)
    assert status == 0, err
    assert [path.name for path in out.iterdir()] == ["stealth.csv"]
    kept = (
        pl.col("trigger") == "none",
        (pl.col("poison_imputed") == "all") & (pl.col("poisoning_strength") == GROTESQUE),
    )
    expected = findings.filter(kept[0] | kept[1])
    assert pl.read_csv(out / "stealth.csv", schema=expected.schema).equals(expected)
    row = next(line for line in printed.splitlines() if "temporal" in line).split()
    assert row[:3] == ["temporal", "all", "300"]
    assert row[7] == "1.000"  # the copies that are none


def test_a_summary_has_the_mean_over_seeds() -> None:
    rows = [
        ("temporal", "all", 2.0, seed, "features", None, "isolation_forest_auroc", seed / 8)
        for seed in (4, 6)
    ]
    columns = ["trigger", "poison_imputed", "poisoning_strength", "seed", "representation", "channel"]
    findings = pl.DataFrame(rows, schema=[*columns, "measure", "value"], orient="row")
    assert summarize_stealth(findings).rows() == [("temporal", "all", 2.0, 0.625)]


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
    code = "import sys; import mimic3tf.cli.app; print({'tensorflow', 'sklearn', 'scipy'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "set()"
