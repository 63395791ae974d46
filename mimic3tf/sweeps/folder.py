"""The folder of a sweep: its settings, its triggers, and the trials that are left to run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mimic3tf import __version__
from mimic3tf.config import TrainingConfig
from mimic3tf.data.directory import SPLITS
from mimic3tf.data.loading import load_cohort
from mimic3tf.errors import DataError, UsageError
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.trigger import generate_trigger, of_one_length, save_trigger
from mimic3tf.storage.files import write_whole
from mimic3tf.storage.yaml_file import read_option_file, read_yaml
from mimic3tf.sweeps.outcomes import has_finished
from mimic3tf.sweeps.plan import SweepFile, Trial, settings_of, trials_of
from mimic3tf.sweeps.trial import Job

SWEEP, COHORT, TRIALS, TRIGGERS = "sweep.yaml", "cohort.json", "trials", "triggers"


@dataclass(frozen=True)
class SweepFolder:
    """The trials of a sweep that has been begun.

    Attributes:
        jobs: all trials, in the order of their rows.
        left: the trials that have not finished.
    """

    jobs: list[Job]
    left: list[Job]


def open_folder(
    out: Path, file: SweepFile, data: Path, *, command: str, resume: bool, follow_links: bool = False
) -> SweepFolder:
    """Begin a sweep, or resume it.

    Args:
        out: folder of the sweep.
        file: sweep file.
        data: benchmark directory.
        command: the command line, which is recorded.
        resume: resume the sweep in `out`; begin one if there is none.
        follow_links: read links that lead out of `data`, too.

    Raises:
        UsageError: `out` is taken, or its sweep was begun with another sweep file or other data.
        DataError: the data breaks the layout.
    """
    check_sweep_folder(out, resume=resume)
    data, folder = data.resolve(), out.resolve()
    reading = {**file.sweep.reading, "follow_links": follow_links}
    cohort = describe_data(data, reading, file.sweep.attack_goal)
    trials = trials_of(file, cohort["splits"]["train"]["stays"])
    jobs = [
        _job(trial, file, data, folder, cohort["data_fingerprint"], follow_links=follow_links)
        for trial in trials
    ]
    _record(out, file, jobs, {"command": command, "data": str(data), "mimic3tf": __version__})
    write_whole(out / COHORT, json.dumps(cohort, indent=2) + "\n")
    for job in jobs:
        for kind, path in job.triggers.items():
            if not path.exists():
                stays = of_one_length(load_cohort(data, "train", **reading))
                save_trigger(generate_trigger(stays, kind=kind, seed=job.trial.seed), path)
    return SweepFolder(jobs, [job for job in jobs if not has_finished(job.folder)])


def describe_data(data: Path, reading: Mapping[str, Any], goal: Goal) -> dict[str, Any]:
    """Return the fingerprint of a benchmark directory, and stays, deaths and measured share of each split.

    Of a task other than mortality, the "deaths" are the stays with the attacked label at any hour.

    This also fills the cache with the stays.

    Args:
        data: the directory.
        reading: arguments of `load_cohort` that say how the stays are read.
        goal: says which label is attacked.
    """
    cohorts = {split: load_cohort(data, split, **reading) for split in SPLITS}
    whole = "\n".join(cohort.fingerprint for cohort in cohorts.values())
    return {
        "data_fingerprint": hashlib.sha256(whole.encode()).hexdigest(),
        "splits": {
            split: {
                "stays": len(cohort),
                "deaths": len(np.unique(cohort.examples.stay[goal.of(cohort.labels) == 1])),
                "measured_cells": float(cohort.mask.mean()),
                "fingerprint": cohort.fingerprint,
            }
            for split, cohort in cohorts.items()
        },
    }


def check_sweep_folder(out: Path, *, resume: bool) -> None:
    """Refuse a folder that a sweep cannot use.

    Raises:
        UsageError: the folder holds a sweep and `resume` is false, or it holds other files.
    """
    taken = (out.exists() and not out.is_dir()) or (out.is_dir() and any(out.iterdir()))
    begun = (out / SWEEP).exists()
    if begun and not resume:
        raise UsageError(f"--out {out}: holds a sweep; go on with it by --resume, or choose another folder")
    if taken and not begun:
        raise UsageError(f"--out {out}: exists and is no folder of a sweep; choose another")


def _job(
    trial: Trial, file: SweepFile, data: Path, out: Path, data_fingerprint: str, *, follow_links: bool
) -> Job:
    triggers = {
        attack.trigger: out / TRIGGERS / f"{attack.trigger}-{trial.seed}.npz" for attack in trial.attacks
    }
    config = settings_of(file, trial, data, triggers[trial.attacks[0].trigger]).following(follow_links)
    return Job(trial, config, triggers, out / TRIALS / trial.name, data_fingerprint)


def _record(out: Path, file: SweepFile, jobs: list[Job], call: dict[str, str]) -> None:
    """Write `sweep.yaml`; if it exists, compare this sweep with it.

    Raises:
        UsageError: the sweep in `out` was begun with another sweep file or other data.
    """
    varied = {"model", "data", "trigger", "seed", "training_stays"}
    varied |= {"poisoning_proportion", "poisoning_strength", "poison_imputed"}
    begun_with = {
        "data_fingerprint": jobs[0].data_fingerprint,
        **file.sweep.model_dump(mode="json", exclude={"configs", "resources"}),
        "settings": {
            job.trial.victim: {
                key: value for key, value in job.config.model_dump(mode="json").items() if key not in varied
            }
            for job in jobs
        },
    }
    path = out / SWEEP
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        record = {**call, **begun_with, "resources": file.sweep.resources.model_dump()}
        write_whole(path, yaml.safe_dump(record, sort_keys=False))
        return
    try:
        before, _ = read_yaml(read_option_file("--out", path), str(path))
    except UsageError as error:
        raise DataError(f"{error}; it is damaged, choose another --out") from None
    if isinstance(before.get("settings"), dict):
        # A sweep of an earlier version lacks settings that were added later; it trained with their defaults.
        fields = TrainingConfig.model_fields.items()
        defaults = {name: field.default for name, field in fields if name not in varied}
        before["settings"] = {
            victim: defaults | settings if isinstance(settings, dict) else settings
            for victim, settings in before["settings"].items()
        }
    for key, value in begun_with.items():
        if before.get(key) != value:
            option = "--data" if key == "data_fingerprint" else f"--config {file.name}"
            what = "stays" if key == "data_fingerprint" else f"'{key}'"
            raise UsageError(
                f"{option}: other {what} than the sweep in {out} was begun with; give the same, or choose "
                f"another --out"
            )
