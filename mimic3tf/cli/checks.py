"""Checks of paths before a command starts TensorFlow, so that a mistake is reported at once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mimic3tf.errors import UsageError, near_path

if TYPE_CHECKING:
    from mimic3tf.config import TrainingConfig
    from mimic3tf.data.directory import Split
    from mimic3tf.poisoning.trigger import Trigger


def check_folders(option: str, paths: Iterable[Path | None], made_by: str) -> None:
    """Refuse folders that do not exist.

    Args:
        option: the option that names the folders.
        paths: the folders; None if the option was not given.
        made_by: how to get such a folder.

    Raises:
        UsageError: a folder does not exist.
    """
    for path in paths:
        if path is not None and not path.is_dir():
            what, meant = ("is no", "") if path.exists() else ("no such", near_path(path))
            raise UsageError(f"{option} {path}: {what} directory; {made_by}{meant}")


def check_files(option: str, paths: Iterable[Path | None]) -> None:
    """Refuse files that do not exist.

    Args:
        option: the option that names the files.
        paths: the files; None if the option was not given.

    Raises:
        UsageError: a file does not exist.
    """
    for path in paths:
        if path is not None and not path.is_file():
            what = "is no file" if path.exists() else f"no such file{near_path(path)}"
            raise UsageError(f"{option} {path}: {what}")


def check_out(out: Path | None) -> None:
    """Refuse an output folder whose path is a file, or leads through a file.

    Raises:
        UsageError: a part of the path is a file.
    """
    for path in () if out is None else (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise UsageError(f"--out {out}: {path} is a file; name a folder")


def check_out_file(out: Path | None) -> None:
    """Refuse an output file whose path is a folder, or leads through a file.

    Raises:
        UsageError: the path is a folder, or a part of the path is a file.
    """
    if out is not None and out.is_dir():
        raise UsageError(f"--out {out}: is a folder; name a file")
    check_out(out and out.parent)


def check_data(data: Path, *splits: Split) -> None:
    """Refuse a directory that does not hold the listfiles of `splits`.

    Raises:
        UsageError: the directory does not exist.
        DataError: a listfile is missing.
    """
    # This module imports Polars, so import it only here.
    from mimic3tf.data.directory import check_directory, listfile_of, missing_listfile

    check_directory(data)
    for split in splits:
        listfile = listfile_of(data, split)
        if not listfile.exists():
            raise missing_listfile(listfile)


def check_trigger(file: Path, settings: TrainingConfig) -> Trigger:
    """Read a trigger, and refuse one that is damaged or was made for other bins.

    Args:
        file: the trigger's file.
        settings: settings of the run; they say which bins are read.

    Raises:
        UsageError: the file does not exist, or the trigger is for other bins.
        DataError: the file is damaged.
    """
    from mimic3tf.poisoning.trigger import check_trigger_bins, load_trigger
    from mimic3tf.tasks.registry import task_of

    trigger = load_trigger(file)
    own = task_of(settings.task).period
    hours = settings.period if own is not None and settings.period is not None else own
    check_trigger_bins(trigger, hours, settings.timestep, file)
    return trigger
