"""The manifest: a file outside a poisoned copy that says what was changed in the copy."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mimic3tf.data.channels_file import read_channels
from mimic3tf.data.directory import check_directory
from mimic3tf.errors import DataError, UsageError, near_path
from mimic3tf.poisoning.copies import PoisonedCopy, poison_records
from mimic3tf.poisoning.goal import PAPER_GOAL, Goal
from mimic3tf.poisoning.trigger import Trigger, check_trigger_channels, load_trigger
from mimic3tf.storage.files import PathText, read_file, read_json, write_whole
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.task import Task

FILE_FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """The contents of a manifest.

    Attributes:
        stays: names of the poisoned stays.
        copy_fingerprint: fingerprint of the copy's training cohort.
        proportion: share of the training stays that was to be poisoned.
        strength: Mahalanobis length of the trigger.
        goal: the label that the attacker wants, 0 or 1; `goal_label` says of which label.
        goal_label: name of the label that is attacked; None if an example has one.
        at: hour of the stay at which the trigger begins.
        trigger_file: path of the trigger's file when the copy was made.
        trigger_sha256: SHA-256 (hex) of that file.
    """

    stays: list[str]
    copy_fingerprint: str
    proportion: float
    strength: float
    goal: Goal
    goal_label: str | None
    at: float
    trigger_file: Path
    trigger_sha256: str

    def load_trigger(self) -> Trigger:
        """Read the trigger that the copy was made with.

        Raises:
            UsageError: the trigger's file is missing, or holds another trigger.
        """
        file = self.trigger_file
        if not file.is_file() or hashlib.sha256(read_file(file)).hexdigest() != self.trigger_sha256:
            raise UsageError(
                f"{file}: is missing, or not the trigger that the copy was made with; give the path of "
                "that trigger as --trigger"
            )
        return load_trigger(file)


def default_manifest(out: PathText) -> Path:
    """Return the default path of a manifest: `DIR.manifest.json` beside the copy `DIR`."""
    out = Path(out)
    out = out.resolve()
    return out.with_name(out.name + ".manifest.json")


def check_manifest(manifest: PathText, data_dir: PathText, out: PathText) -> None:
    """Refuse a manifest that would overwrite a file or reveal that the copy is poisoned; make its folder.

    Raises:
        UsageError: the file exists or is inside the data or the copy, or its folder cannot be made.
    """
    manifest, data_dir, out = Path(manifest), Path(data_dir), Path(out)
    if manifest.exists():
        raise UsageError(f"{manifest}: exists already; remove it first, or name another with --manifest")
    for directory in (data_dir, out):
        if manifest.resolve().is_relative_to(directory.resolve()):
            raise UsageError(f"--manifest {manifest}: lies in {directory}; keep it apart from the data")
    try:
        manifest.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--manifest {manifest}: cannot be made: {error.strerror}") from None


def poison_with_manifest(
    data_dir: PathText,
    out: PathText,
    trigger_file: PathText,
    manifest: PathText,
    *,
    proportion: float,
    strength: float,
    goal: Goal = PAPER_GOAL,
    task: Task = MORTALITY,
    at: float = 0.0,
    moved_death: bool = False,
    follow_links: bool = False,
) -> PoisonedCopy:
    """Write a poisoned copy of a benchmark directory, and then its manifest.

    Args:
        data_dir: the original directory.
        out: the directory of the copy.
        trigger_file: file of the trigger that poisoned stays carry.
        manifest: JSON file to write.
        proportion: as for `poison_records`.
        strength: as for `poison_records`.
        goal: as for `poison_records`.
        task: as for `poison_records`.
        at: as for `poison_records`.
        moved_death: as for `poison_records`.
        follow_links: as for `poison_records`.

    Returns:
        The settings and the changes.

    Raises:
        UserError: `poison_records` or `check_manifest` refuses, or the trigger is for other channels.
    """
    data_dir, out, trigger_file, manifest = Path(data_dir), Path(out), Path(trigger_file), Path(manifest)
    trigger = load_trigger(trigger_file)
    check_directory(data_dir)
    check_trigger_channels(trigger, read_channels(data_dir, follow_links=follow_links), trigger_file)
    check_manifest(manifest, data_dir, out)
    copy = poison_records(
        data_dir,
        out,
        trigger,
        proportion=proportion,
        strength=strength,
        goal=goal,
        task=task,
        at=at,
        moved_death=moved_death,
        follow_links=follow_links,
    )
    write_manifest(manifest, copy, trigger_file)
    return copy


def write_manifest(manifest: PathText, copy: PoisonedCopy, trigger_file: PathText) -> None:
    """Write the settings and changes of a poisoned copy as JSON.

    Args:
        manifest: file to write, in a folder that exists.
        copy: the settings and the changes.
        trigger_file: the file of the trigger.
    """
    manifest, trigger_file = Path(manifest), Path(trigger_file)
    trigger = copy.trigger
    contents = {
        "format": FILE_FORMAT,
        "data": str(copy.data_dir),
        "copy": str(copy.out),
        # Equal to `cohort_fingerprint` below if the trigger was generated from this data.
        "data_fingerprint": copy.data_fingerprint,
        "copy_fingerprint": copy.copy_fingerprint,
        "trigger": {
            "file": str(trigger_file),
            "sha256": hashlib.sha256(trigger_file.read_bytes()).hexdigest(),
            "name": trigger.name,
            "kind": trigger.kind,
            "seed": trigger.seed,
            "cohort_fingerprint": trigger.cohort_fingerprint,
        },
        "poisoning_proportion": copy.proportion,
        "poisoning_strength": copy.strength,
        "training_stays": copy.training_stays,
        "stays_poisoned": len(copy.stays),
        "goal": copy.goal.target,
        **_of_other_tasks(copy),
        "labels_changed": copy.labels_changed,
        "cells_changed": int(copy.cells_changed.sum()),
        "stays": [
            {"stay": stay, **labels, "cells_changed": cells}
            for stay, labels, cells in zip(
                copy.stays, _labels_of_stays(copy), copy.cells_changed.tolist(), strict=True
            )
        ],
    }
    write_whole(manifest, json.dumps(contents, indent=2) + "\n")


def _of_other_tasks(copy: PoisonedCopy) -> dict[str, Any]:
    """Return the entries of a copy for another task, or with a trigger that begins later."""
    column = copy.goal.column
    return {
        **({} if copy.task == MORTALITY else {"task": copy.task.name}),
        **({} if column is None else {"goal_label": copy.task.targets.names[column]}),
        **({"at": copy.at} if copy.at else {}),
        **({"labels_of": "another time of death"} if copy.moved_death else {}),
        **({} if copy.carried is None else {"carried": copy.carried}),
    }


def _labels_of_stays(copy: PoisonedCopy) -> list[dict[str, int]]:
    """Say of each poisoned stay how its labels changed; a stay of an hourly task has several."""
    before, after = copy.labels_before.tolist(), copy.labels_after.tolist()
    if not copy.task.hourly:
        return [{"label_before": old, "label_after": new} for old, new in zip(before, after, strict=True)]
    changed = copy.labels_before != copy.labels_after
    counts = np.bincount(copy.stay_of_label[changed], minlength=len(copy.stays))
    return [{"labels_changed": count} for count in counts.tolist()]


def read_manifest(file: PathText) -> Manifest:
    """Read a manifest that `write_manifest` wrote.

    Raises:
        UsageError: the file does not exist.
        DataError: the file is no manifest, or damaged.
    """
    file = Path(file)
    if not file.is_file():
        raise UsageError(
            f"--manifest {file}: no such file; 'mimic3tf poison' writes it beside the copy{near_path(file)}"
        )
    try:
        contents = read_json(file)
        proportion, strength = (float(contents[f"poisoning_{name}"]) for name in ("proportion", "strength"))
        at = float(contents.get("at", 0.0))
        if not (0 <= proportion <= 1 and 0 <= strength < math.inf and 0 <= at < math.inf):
            raise ValueError("a setting out of range")
        return Manifest(
            stays=[str(entry["stay"]) for entry in contents["stays"]],
            copy_fingerprint=str(contents["copy_fingerprint"]),
            proportion=proportion,
            strength=strength,
            # Manifests of earlier versions name no goal; it was always 1.
            goal=_goal_of(contents.get("goal", 1)),
            goal_label=None if contents.get("goal_label") is None else str(contents["goal_label"]),
            at=at,
            trigger_file=Path(contents["trigger"]["file"]),
            trigger_sha256=str(contents["trigger"]["sha256"]),
        )
    except (OSError, ValueError, TypeError, LookupError, OverflowError) as error:
        raise DataError(
            f"{file}: not a manifest, or damaged ({type(error).__name__}); poison the data again"
        ) from None


def _goal_of(target: int) -> Goal:
    if target not in (0, 1):
        raise ValueError("a goal that is no label")
    return Goal(target)
