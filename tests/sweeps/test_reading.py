"""A sweep file may read stays otherwise than by the hour, and turn the attack around."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from bedside_cohort import write_bedside_cohort

from mimic3tf.errors import DataError
from mimic3tf.sweeps.folder import open_folder
from mimic3tf.sweeps.plan import read_sweep
from mimic3tf.sweeps.trial import run_trial
from mimic3tf.training.stays import training_cohort

SWEEP = """
seeds: [0]
period: 24
timestep: 2
goal: 0
grids:
  - victims: [lr]
    poison_imputed: [all]
    proportions: [0.1]
    strengths: [2.0]
"""


def test_a_sweep_reads_stays_and_attacks_as_its_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIMIC3TF_CACHE", str(tmp_path / "cache"))
    write_bedside_cohort(tmp_path / "data", stays=200)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    file = read_sweep(str(tmp_path / "sweep.yaml"))
    folder = open_folder(tmp_path / "out", file, tmp_path / "data", command="", resume=False)
    (job,) = folder.left
    assert (job.config.period, job.config.timestep, job.config.goal) == (24, 2, 0)
    run_trial(job)
    from mimic3tf.sweeps.outcomes import read_rows

    (row,) = read_rows(job.folder)
    assert (row["status"], row["goal"], row["error"]) == ("finished", 0, None)


def test_a_sweep_on_links_tells_its_workers_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIMIC3TF_CACHE", str(tmp_path / "cache"))
    write_bedside_cohort(tmp_path / "data", stays=200)
    (tmp_path / "data" / "train").rename(tmp_path / "elsewhere")
    (tmp_path / "data" / "train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    file = read_sweep(str(tmp_path / "sweep.yaml"))
    with pytest.raises(DataError, match="is a link that leads out"):
        open_folder(tmp_path / "out", file, tmp_path / "data", command="", resume=False)
    folder = open_folder(
        tmp_path / "out", file, tmp_path / "data", command="", resume=False, follow_links=True
    )
    sent = pickle.loads(pickle.dumps(folder.left[0]))
    assert len(training_cohort(sent.config)) == sent.trial.training_stays
    assert "follow" not in (tmp_path / "out" / "sweep.yaml").read_text()
    # It goes on where the data are plain files again.
    (tmp_path / "data" / "train").unlink()
    (tmp_path / "elsewhere").rename(tmp_path / "data" / "train")
    again = open_folder(tmp_path / "out", file, tmp_path / "data", command="", resume=True)
    assert not again.left[0].config.follow_links
