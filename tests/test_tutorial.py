"""The code and commands of the tutorial run as the page shows them."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mimic3tf.cli.main import main
from mimic3tf.data.directory import SPLITS
from mimic3tf.data.loading import load_cohort

TEXT = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text(encoding="utf-8")
STAYS = 150


def block(heading: str) -> str:
    """The code block under a heading, without the indentation."""
    section = TEXT.partition(f"## {heading}")[2].partition("\n## ")[0]
    return "\n".join(line[4:] for line in section.splitlines() if line.startswith("    ") or not line)


def write_tables(folder: Path) -> None:
    random = np.random.default_rng(0)
    stays, hours = np.repeat(np.arange(STAYS), 20), np.tile(np.arange(20), STAYS)
    keys = {"subject": 4000 + stays, "episode": np.ones_like(stays), "minute": hours * 140}
    columns = {
        "Heart Rate": random.normal(85, 12, stays.size).round(1),
        "Temperature": 36.5 + random.random(stays.size),
    }
    tables = [
        pl.DataFrame(keys | {"channel": name, "value": values.astype(str)})
        for name, values in columns.items()
    ]
    tables.append(tables[0].with_columns(channel=pl.lit("Glascow coma scale total"), value=pl.lit("14")))
    pl.concat(tables).write_csv(folder / "measurements.csv")
    died = (np.arange(STAYS) % 5 == 0).astype(int)
    outcomes = pl.DataFrame({"subject": 4000 + np.arange(STAYS), "episode": 1, "died": died})
    outcomes.write_csv(folder / "outcomes.csv")


def run(
    text: str, expected: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run the commands of a block of code."""
    commands = [line for line in text.splitlines() if line.startswith("mimic3tf")]
    assert len(commands) == expected
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        status = None
        try:
            main()
        except SystemExit as end:
            status = end.code
        assert not status, capsys.readouterr().err


@pytest.mark.slow
def test_the_tutorial_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIMIC3TF_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_tables(tmp_path)
    run(block("2. A benchmark directory"), 1, monkeypatch, capsys)
    cohorts = {split: load_cohort(tmp_path / "data", split) for split in SPLITS}
    assert sum(map(len, cohorts.values())) == STAYS
    cohort = cohorts["train"]
    assert 90 <= len(cohort) <= 120
    died = {f"{4000 + stay}_episode1_timeseries.csv" for stay in range(0, STAYS, 5)}
    assert [name in died for name in cohort.stays] == (cohort.labels == 1).tolist()
    rates = pl.read_csv(tmp_path / "measurements.csv").filter(pl.col("channel") == "Heart Rate")
    expected = rates.filter(pl.col("subject") == int(cohort.stays[0].split("_")[0]), pl.col("minute") == 0)
    assert cohort.grids[0, 0, 8] == pytest.approx(float(expected["value"][0]), rel=1e-6)

    run(block("3. Attack yourself"), 6, monkeypatch, capsys)
    table = capsys.readouterr().out
    assert "runs/clean" in table
    assert "runs/poisoned" in table
    assert (tmp_path / "runs" / "poisoned" / "attack.json").exists()


def test_every_channel_of_the_tutorial_exists() -> None:
    from mimic3tf.channels import MIMIC3

    table = TEXT.partition("| channel | unit |")[2].partition("\n\n")[0]
    names = re.findall(r"`([^`]+)`", table)
    assert len(names) == 18
    for name in names:
        known = [
            column for column in MIMIC3.header if column == name or column.endswith(name.removeprefix("... "))
        ]
        assert known or name == "mimic3tf.channels.MIMIC3", name
