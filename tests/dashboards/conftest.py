"""One run of each log level on a small cohort, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from invented_trigger import bedside_trigger as make_trigger

from mimic3tf.config import LogLevel, resolve_config
from mimic3tf.dashboards.tensorboard import RunLog
from mimic3tf.data.loading import load_cohort
from mimic3tf.poisoning.trigger import Trigger, generate_trigger, save_trigger
from mimic3tf.training.loop import train_victim

EPOCHS = 3


@pytest.fixture(scope="session")
def run_at(
    small_cohort: Callable[[int, int], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Run directory of an LR that was trained at a log level; level "full" also records a profile.

    `run_at(level, goal=1)`: with goal 0, stays that end in death are attacked.
    """
    folder = tmp_path_factory.mktemp("tensorboard")
    data, trigger = small_cohort(120, 7), folder / "trigger.npz"
    runs: dict[tuple[LogLevel, int], Path] = {}

    def run(level: LogLevel, goal: int = 1) -> Path:
        if (level, goal) not in runs:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MIMIC3TF_CACHE", str(folder / "cache"))
                if not runs:
                    save_trigger(generate_trigger(load_cohort(data, "train")), trigger)
                options = {"data": data, "trigger": trigger, "epochs": EPOCHS, "precision": "float32"}
                options |= {"learning_rate": 0.01, "log_level": level, "goal": goal}
                settings = resolve_config("lr", None, options)
                runs[level, goal] = folder / ("runs" if goal == 1 else "runs-to-0") / level
                train_victim(settings, runs[level, goal], profile=level == "full", log=RunLog)
        return runs[level, goal]

    return run


@pytest.fixture(scope="session")
def run(run_at: Callable[[LogLevel], Path]) -> Path:
    return run_at("default")


@pytest.fixture
def bedside_trigger() -> Trigger:
    return make_trigger()
