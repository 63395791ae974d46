"""What lies where in a benchmark directory: splits, listfiles, series files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from mimic3tf.data.records import CHARACTERS_SHOWN
from mimic3tf.errors import DataError, private, private_path
from mimic3tf.storage.files import read_file

SPLITS = ("train", "val", "test")
"""Names of the listfiles; the series of `train` and `val` both live in `train/`."""


Split = Literal["train", "val", "test"]


def series_of(data_dir: Path, split: Split, entries: Iterable[tuple[str, int]]) -> list[Path]:
    """Series files of a split's stays; those of train and val both lie in `train/`."""
    folder = data_dir / ("test" if split == "test" else "train")
    refuse_link(folder)
    return [folder / name for name, _ in entries]


def read_listfile(path: Path) -> list[tuple[str, int]]:
    """Read the stays of a split and their labels.

    Args:
        path: CSV file with the columns `stay,y_true`.

    Returns:
        (series file name, label) in file order.

    Raises:
        DataError: the file is missing or empty, or a line of it is malformed; names the line.
    """
    refuse_link(path)
    try:
        # As a text file is read: line ends of Windows are line ends.
        text = read_file(path).decode().replace("\r\n", "\n").replace("\r", "\n")
        header, *lines = text.split("\n")
    except FileNotFoundError:
        raise DataError(f"{path}: listfile not found; a benchmark directory holds one a split") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from None
    if header != "stay,y_true":
        raise DataError(f"{path}, line 1: the header must read 'stay,y_true', not '{private(header[:50])}'")
    entries: dict[str, int] = {}
    for number, line in enumerate(lines, start=2):
        if not line:
            continue
        stay, _, label = line.partition(",")
        if label not in ("0", "1"):
            held = private(label[:CHARACTERS_SHOWN])
            raise DataError(f"{path}, line {number}: column 'y_true' holds '{held}'; labels are 0 or 1")
        if stay in entries:
            raise DataError(
                f"{path}, line {number}: stay '{private(stay[:CHARACTERS_SHOWN])}' is listed twice"
            )
        if Path(stay).name != stay or stay in ("", "..") or not stay.isprintable():
            raise DataError(
                f"{path}, line {number}: column 'stay' holds '{private(stay[:CHARACTERS_SHOWN])}', not a file name"
            )
        entries[stay] = int(label)
    if not entries:
        raise DataError(f"{path}: lists no stays")
    return list(entries.items())


def refuse_link(path: Path) -> None:
    """Refuse a link in a benchmark directory: it could lead anywhere.

    Raises:
        DataError: it is one.
    """
    if path.is_symlink():
        raise DataError(
            f"{private_path(path)}: is a link; a benchmark directory holds the files themselves (cp -rL)"
        )
