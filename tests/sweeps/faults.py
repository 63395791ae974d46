"""Trials that go wrong as told, in place of real ones; workers import this module by its name."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mimic3tf.errors import UsageError
from mimic3tf.sweeps import trial
from mimic3tf.sweeps.trial import Job

MEASURED = {"attack_success_rate": 0.5, "clean_auroc": 0.75}


def start(attempts: Path, faults: Mapping[str, str]) -> None:
    """Give a worker trials that fail as `faults` says by their names, and note every attempt in a folder."""
    trial._train_and_attack = partial(_pretend, attempts, faults)


def _pretend(attempts: Path, faults: Mapping[str, str], job: Job, _: object) -> list[dict[str, Any]]:
    with (attempts / job.trial.name).open("a") as file:
        file.write(".")
    with (attempts / "processes").open("a") as file:
        file.write(f"{os.getpid()}\n")
    first = (attempts / job.trial.name).read_text() == "."
    fault = faults.get(job.trial.name, "")
    if fault == "raises" or (fault == "raises once" and first):
        raise RuntimeError("no such\nluck")
    if fault == "dies" or (fault == "dies once" and first):
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "mistake":
        raise UsageError("too strong")
    return [MEASURED] * len(job.trial.attacks)
