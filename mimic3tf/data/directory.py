"""The layout of a benchmark directory: splits, listfiles, series files.

A directory DIR contains::

    DIR/train_listfile.csv, val_listfile.csv, test_listfile.csv     stays and their labels
    DIR/train/, DIR/test/                                           series files; those of val are in train/
    DIR/channels.yaml                                               channels, if not those of the benchmarks
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from mimic3tf.data.channels_file import CHANNELS_FILE
from mimic3tf.data.links import check_link
from mimic3tf.errors import DataError, UsageError, near_path
from mimic3tf.storage.files import PathText, read_file

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
"""All splits; each has the listfile `SPLIT_listfile.csv`."""
FOLDERS = ("train", "test")
"""Folders of series files; the series of val are in `train/`, too."""
RUN_FILES = ("run.json", "config.yaml")
"""Files of a run of `mimic3tf train`, which may be given in place of a data directory."""
STAYS_FILE = "stays.csv"
"""A row for each stay, with its length and death; `prepare` writes it for tasks that read whole stays."""


def check_directory(data_dir: PathText) -> None:
    """Refuse a data directory that does not exist, or that is something else.

    Raises:
        UsageError: the directory does not exist, or holds no listfile.
    """
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise UsageError(
            f"{data_dir}: no such directory; --data takes one in the benchmarks' layout{near_path(data_dir)}"
        )
    if any(listfile_of(data_dir, split).exists() for split in SPLITS):
        return
    is_run = any((data_dir / name).exists() for name in RUN_FILES)
    what = "is a run directory, not a data directory" if is_run else "is no data directory"
    meant = _with_listfile(data_dir, listfile_of(data_dir, "train").name)
    raise UsageError(
        f"--data {data_dir}: {what}; name one that 'mimic3tf prepare' made, with train_listfile.csv{meant}"
    )


def _with_listfile(folder: Path, name: str) -> str:
    """Return the end of an error for a folder without a listfile: a subfolder that holds it."""
    children = folder.iterdir() if folder.is_dir() else ()
    inside = next((child for child in children if (child / name).exists()), None)
    return f"; did you mean {inside}?" if inside else ""


def listfile_of(data_dir: PathText, split: Split) -> Path:
    """Return the path of the listfile of a split."""
    data_dir = Path(data_dir)
    return data_dir / f"{split}_listfile.csv"


def missing_listfile(path: Path) -> DataError:
    """Make the error for a listfile that does not exist; it names a subfolder that holds the listfile."""
    meant = _with_listfile(path.parent, path.name)
    return DataError(f"{path}: listfile not found; a benchmark directory holds one a split{meant}")


def lacking(data_dir: PathText, split: Split, fault: str) -> str:
    """Say what a split lacks, and how to give it stays of another split.

    Args:
        data_dir: benchmark directory.
        split: the split.
        fault: what it lacks, such as "no stay has label 1".
    """
    giver: Split = "val" if split == "train" else "train"
    folders = "" if folder_of(split) == folder_of(giver) else ", and their files from train/ to test/"
    return (
        f"{listfile_of(data_dir, split)}: {fault}; move the lines of stays that have what is missing from "
        f"{giver}_listfile.csv to {split}_listfile.csv{folders}, all stays of a patient together, or take a "
        "larger cohort"
    )


def folder_of(split: Split) -> str:
    """Return the folder of a split's series files: `train` for train and val, `test` for test."""
    return "test" if split == "test" else "train"


def series_of(
    data_dir: PathText, split: Split, stays: Iterable[str], *, follow_links: bool = False
) -> list[Path]:
    """List the series files of a split's stays.

    Only the folder is checked with `check_link`; the files may still be links.

    Args:
        data_dir: benchmark directory.
        split: the split.
        stays: names of the series files.
        follow_links: read the folder even if it is a link that leads out of the directory.

    Raises:
        DataError: the folder is a link that leads out of the directory.
    """
    data_dir = Path(data_dir)
    folder = data_dir / folder_of(split)
    check_link(folder, data_dir, follow_links=follow_links)
    return [folder / name for name in stays]


def fingerprint_of(listfile: Path, digests: Iterable[bytes]) -> str:
    """Compute the fingerprint of a split from its listfile, its series and the directory's `channels.yaml`.

    Args:
        listfile: the listfile of the split.
        digests: SHA-256 of each series file, in the order of the listfile.

    Returns:
        SHA-256 as hexadecimal text.
    """
    channels = listfile.with_name(CHANNELS_FILE)
    own = hashlib.sha256(read_file(channels)).digest() if channels.exists() else b""
    return hashlib.sha256(listfile.read_bytes() + own + b"".join(digests)).hexdigest()
