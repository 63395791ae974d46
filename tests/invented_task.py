"""Invented stays of one of the benchmarks' tasks, for a whole session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mimic3tf.data.cohort import Cohort
from mimic3tf.data.loading import load_cohort
from mimic3tf.poisoning.trigger import Trigger, generate_trigger
from mimic3tf.sources.synthetic import prepare_synthetic
from mimic3tf.tasks.task import Task


def stays_of(task: Task, *, stays: int, seed: int = 2) -> tuple[Any, Any, Any]:
    """Make three fixtures: the directory, its training stays, and a trigger made from these.

    A module names them `data`, `train` and `trigger`, because the later ones ask for the earlier by name.
    """

    @pytest.fixture(scope="session")
    def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
        out = tmp_path_factory.mktemp(task.name) / "data"
        prepare_synthetic(out, stays=stays, seed=seed, task=task)
        return out

    @pytest.fixture(scope="session")
    def train(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MIMIC3TF_CACHE", str(tmp_path_factory.mktemp("cache")))
            return load_cohort(data, "train", task=task.name)

    @pytest.fixture(scope="session")
    def trigger(train: Cohort) -> Trigger:
        return generate_trigger(train)

    return data, train, trigger
