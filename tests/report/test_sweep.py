"""Sweeps are read as they are, joined, and refused where a report of them would mislead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mimic3tf.errors import DataError, UsageError
from mimic3tf.report.sweep import read_sweeps


def test_finished_and_failed_trials_are_told_apart(invented: Any, tmp_path: Path) -> None:
    rows = [
        invented.trial(),
        invented.failed("mlp-broken", "no memory"),
        invented.failed("mlp-broken", "no memory"),
    ]
    sweeps = read_sweeps([invented.write(tmp_path / "a", rows)])
    assert sweeps.results["trial"].to_list() == ["lr-temporal-all-p0.05-s2-n5600-seed0"]
    assert sweeps.failed.rows() == [(str(tmp_path / "a"), "mlp-broken", "no memory")]
    (sweep,) = sweeps.sweeps
    assert (sweep.finished, sweep.failed, sweep.data) == (1, 1, Path("/nowhere/data"))
    assert sweep.splits.row(0) == ("train", 5600, 781, 0.27)


def test_a_trial_that_two_sweeps_ran_to_the_same_numbers_counts_once(invented: Any, tmp_path: Path) -> None:
    folders = [
        invented.write(tmp_path / "a", [invented.trial(), invented.trial(seed=1)]),
        invented.write(
            tmp_path / "b", [invented.trial(seconds_training=99.0), invented.trial(strength=10.0)]
        ),
    ]
    results = read_sweeps(folders).results
    assert results.select("seed", "poisoning_strength").rows() == [(0, 2.0), (1, 2.0), (0, 10.0)]


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        (
            {"trial": "again", "attack_success_rate": 0.125},
            r"trial lr-temporal.* in .*a and trial again in .*b have the same",
        ),
        ({"seed": 1, "data_fingerprint": "e" * 64}, "2 different cohorts"),
    ],
    ids=["two results of a trial", "two cohorts"],
)
def test_sweeps_that_do_not_go_together_are_refused(
    invented: Any, tmp_path: Path, second: dict[str, Any], fault: str
) -> None:
    trials = {"a": invented.trial(), "b": invented.trial(**second)}
    with pytest.raises(UsageError, match=fault):
        read_sweeps([invented.write(tmp_path / name, [trial]) for name, trial in trials.items()])


def test_a_folder_without_results_is_named(invented: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing: holds no results\.csv.*mimic3tf sweep"):
        read_sweeps([tmp_path / "nothing"])


def test_a_sweep_in_which_nothing_finished_is_refused(invented: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no trial has finished; .*--resume"):
        read_sweeps([invented.write(tmp_path / "a", [invented.failed("x", "y")])])


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([{"victim": "lr", "run": "a"}], "has no column trial"),
        ([{"seed": "zero"}], r"results\.csv: .*seed"),
        ([{"attack_success_rate": None}], "a finished trial has no attack_success_rate"),
    ],
)
def test_results_that_are_no_sweeps_are_refused(
    invented: Any, tmp_path: Path, rows: list[dict[str, Any]], fault: str
) -> None:
    rows = [row if "run" in row else invented.trial() | row for row in rows]
    with pytest.raises(DataError, match=fault):
        read_sweeps([invented.write(tmp_path / "a", rows)])


@pytest.mark.parametrize("name", ["results.csv", "sweep.yaml", "cohort.json"])
def test_a_damaged_file_is_named(invented: Any, tmp_path: Path, name: str) -> None:
    folder = invented.write(tmp_path / "a", [invented.trial()])
    (folder / name).write_text("[1, {", encoding="utf-8")
    with pytest.raises(DataError, match=f"{name}: "):
        read_sweeps([folder])


def test_of_several_triggers_of_a_kind_the_lowest_seed_is_shown(invented: Any, tmp_path: Path) -> None:
    folder = invented.write(tmp_path / "a", [invented.trial()])
    invented.write_triggers(folder)
    assert sorted(read_sweeps([folder]).triggers) == ["covariance", "gaussian", "temporal"]
    assert read_sweeps([folder]).triggers["gaussian"].kind == "gaussian"


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08", b"x^", b"x\x01", b"\x28\xb5\x2f\xfd"])
def test_results_that_are_a_compressed_file_are_not_unpacked(
    invented: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    folder = invented.write(tmp_path / "a", [invented.trial()])
    (folder / "results.csv").write_bytes(start + (folder / "results.csv").read_bytes())
    monkeypatch.setattr(pl, "read_csv", lambda *_, **__: pytest.fail("was given to Polars"))
    with pytest.raises(DataError, match=r"results\.csv: cannot be read"):
        read_sweeps([folder])


def test_the_files_of_an_earlier_version_are_read(invented: Any, tmp_path: Path) -> None:
    """They call the attacked stays victims, and what victims read "48x17" and "714"."""
    stealth = (
        "trigger,poison_imputed,poisoning_strength,seed,representation,channel,measure,value\n"
        + "".join(
            f"temporal,all,2.0,0,{reads},,isolation_forest_auroc,{value}\n"
            for reads, value in (("grid", 0.5), ("features", 0.75))
        )
    )
    found = []
    for name, changes in (
        ("new", {}),
        ("old", {"stays_attacked": "victims", ",grid,": ",48x17,", ",features,": ",714,"}),
    ):
        folder = invented.write(tmp_path / name, [invented.trial()])
        (folder / "stealth.csv").write_text(stealth, encoding="utf-8")
        for file in (folder / "results.csv", folder / "stealth.csv"):
            text = file.read_text(encoding="utf-8")
            for word, before in changes.items():
                text = text.replace(word, before)
            file.write_text(text, encoding="utf-8")
        found.append(read_sweeps([folder]))
    new, old = found
    assert old.results.equals(new.results)
    assert old.results["stays_attacked"].to_list() == [1030]
    assert old.stealth is not None
    assert new.stealth is not None
    assert old.stealth.equals(new.stealth)
    assert old.stealth["representation"].to_list() == ["grid", "features"]


def test_numbers_alone_are_read_as_an_earlier_versions_representation(invented: Any, tmp_path: Path) -> None:
    """Where a file has findings about features only, "714" looks like a column of numbers."""
    folder = invented.write(tmp_path / "a", [invented.trial()])
    (folder / "stealth.csv").write_text(
        "trigger,poison_imputed,poisoning_strength,seed,representation,channel,measure,value\n"
        "temporal,all,2.0,0,714,,isolation_forest_auroc,0.5\n",
        encoding="utf-8",
    )
    stealth = read_sweeps([folder]).stealth
    assert stealth is not None
    assert stealth["representation"].to_list() == ["features"]


def test_sweeps_of_two_goals_are_refused(invented: Any, tmp_path: Path) -> None:
    named = {"task": "in-hospital-mortality"}
    folders = [
        invented.write(tmp_path / "a", [invented.trial() | named | {"goal": 0}]),
        invented.write(tmp_path / "b", [invented.trial(seed=1)]),
    ]
    with pytest.raises(
        UsageError, match=r"goal 0 and in-hospital-mortality, goal 1\); write a report of each"
    ):
        read_sweeps(folders)
    sweeps = read_sweeps(folders[:1])
    assert (sweeps.aim.goal, sweeps.aim.attacked, sweeps.aim.reached) == (0, "deaths", "predicted to survive")
