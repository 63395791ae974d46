"""What a command asks of paths before it starts TensorFlow, which takes a while."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mimic3tf.errors import DataError, UsageError, near_path

if TYPE_CHECKING:
    from mimic3tf.data.directory import Split


def check_folders(option: str, paths: Iterable[Path | None], made_by: str) -> None:
    """Refuse folders that are not there.

    Args:
        option: that names them.
        paths: the folders; None where the option was not given.
        made_by: how to get one.

    Raises:
        UsageError: one is not there.
    """
    for path in paths:
        if path is not None and not path.is_dir():
            what, meant = ("is no", "") if path.exists() else ("no such", near_path(path))
            raise UsageError(f"{option} {path}: {what} directory; {made_by}{meant}")


def check_files(option: str, paths: Iterable[Path | None]) -> None:
    """Refuse files that are not there.

    Args:
        option: that names them.
        paths: the files; None where the option was not given.

    Raises:
        UsageError: one is not there.
    """
    for path in paths:
        if path is not None and not path.is_file():
            what = "is no file" if path.exists() else f"no such file{near_path(path)}"
            raise UsageError(f"{option} {path}: {what}")


def check_out(out: Path | None) -> None:
    """Refuse a folder to write into that is a file, or lies in one.

    Raises:
        UsageError: it is.
    """
    for path in () if out is None else (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise UsageError(f"--out {out}: {path} is a file; name a folder")


def check_data(data: Path, *splits: Split) -> None:
    """Refuse a directory that does not hold the listfiles of some splits.

    Raises:
        UsageError: it does not exist.
        DataError: it holds no listfile of one.
    """
    # Polars comes with it.
    from mimic3tf.data.directory import check_directory, listfile_of

    check_directory(data)
    for split in splits:
        listfile = listfile_of(data, split)
        if not listfile.exists():
            inside = next((child for child in data.iterdir() if (child / listfile.name).exists()), None)
            meant = f"; did you mean {inside}?" if inside else ""
            raise DataError(f"{listfile}: listfile not found; a benchmark directory holds one a split{meant}")


def check_trigger(file: Path, *, task: str, period: float | None, timestep: float) -> None:
    """Refuse a trigger that is damaged, or was made for other bins than are read.

    Args:
        file: the trigger's file.
        task: what is predicted.
        period: hours of a stay to read; the task's own if not given.
        timestep: hours of a bin.

    Raises:
        UsageError: it is not there, or for other bins.
        DataError: it is damaged.
    """
    from mimic3tf.poisoning.trigger import check_trigger_bins, load_trigger
    from mimic3tf.tasks.registry import task_of

    hours = task_of(task).period if period is None else period
    check_trigger_bins(load_trigger(file), hours, timestep, file)
