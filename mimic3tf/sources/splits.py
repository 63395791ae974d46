"""Which stays go to train, val and test: all stays of a patient go to the same split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.data.directory import SPLITS
from mimic3tf.errors import DataError, private
from mimic3tf.sources.layout import SHARES


def split_by_subject(
    stays: pl.DataFrame, chosen: Mapping[str, set[int]] | None = None
) -> dict[str, NDArray[np.int64]]:
    """Assign stays to splits by subject; only the names of the stays decide the order within a split.

    Args:
        stays: columns subject and k [N].
        chosen: "test" or "val" -> its subjects. Without them, a hash of the subject's id decides: about
            15% of the subjects go to test, and about 15% to val. A subject chosen for both goes to test.

    Returns:
        Split -> indices of its stays, int64.
    """
    chosen = chosen or {}
    split_of = {}
    for subject in stays["subject"].unique():
        draw = _uniform(f"{subject}")
        test = subject in chosen["test"] if "test" in chosen else draw < SHARES["test"]
        val = subject in chosen["val"] if "val" in chosen else 0 <= draw - SHARES["test"] < SHARES["val"]
        split_of[subject] = "test" if test else "val" if val else "train"
    return in_order(stays, [split_of[subject] for subject in stays["subject"]])


def in_order(stays: pl.DataFrame, splits: list[str]) -> dict[str, NDArray[np.int64]]:
    """Order the stays of each split by a hash of their names, so that the order says nothing about them.

    Args:
        stays: columns subject and k [N].
        splits: split of each stay [N].

    Returns:
        Split -> indices of its stays, int64.
    """
    members: dict[str, list[tuple[float, int]]] = {split: [] for split in SPLITS}
    names = stays.select(pl.format("{}_episode{}", "subject", "k")).to_series()
    for index, (name, split) in enumerate(zip(names, splits, strict=True)):
        members[split].append((_uniform(name), index))
    return {
        split: np.array([index for _, index in sorted(drawn)], np.int64) for split, drawn in members.items()
    }


def read_subjects(path: Path) -> set[int]:
    """Read a list of subjects: lines `subject` or `subject,flag`; flag 1 takes a subject, 0 does not.

    Raises:
        DataError: the file cannot be read; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not text in UTF-8") from None
    subjects = set()
    for number, line in enumerate(lines, start=1):
        subject, _, flag = (part.strip() for part in line.partition(","))
        if not subject and not flag:
            continue
        if not (subject.isascii() and subject.isdigit()) or flag not in ("", "0", "1"):
            raise DataError(
                f"{path}, line {number}: '{private(line[:60])}' is not 'subject,flag' with flag 0 or 1"
            )
        if flag != "0":
            subjects.add(int(subject))
    return subjects


def _uniform(text: str) -> float:
    """Map a text to a number in [0, 1) that is the same on every platform."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48
