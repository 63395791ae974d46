"""Make listfiles of length of stay for a prepared PhysioNet 2012 directory, whose series end at hour 48.

    python scripts/length_of_stay.py DATA OUT Outcomes-a.txt Outcomes-b.txt

DATA is what `mimic3tf prepare physionet2012` wrote. OUT gets the same splits: an example for each of the
hours 5 to 48 after the first row of the series, whose label is the remaining time. The outcome files give
the length of the stay in the hospital, not in the ICU, and in whole days: the labels are coarse.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import polars as pl

from mimic3tf.data.directory import FOLDERS, SPLITS, folder_of, listfile_of
from mimic3tf.tasks.registry import LENGTH_OF_STAY

FIRST_HOUR, LAST_HOUR = 5, 48


def lengths(outcomes: list[Path]) -> dict[str, int]:
    """Read the days of every record that has them."""
    table = pl.concat(pl.read_csv(file) for file in outcomes)
    known = table.filter(pl.col("Length_of_stay") >= 0)
    return dict(zip(known["RecordID"].cast(pl.String), known["Length_of_stay"], strict=True))


def examples(series: Path, days: int) -> list[str]:
    """Write the rows of a listfile for one stay."""
    with series.open() as file:
        next(file)
        begun = float(next(file).partition(",")[0])
    return [
        f"{series.name},{hour:.6f},{24 * days - hour:.6f}"
        for hour in range(FIRST_HOUR, min(LAST_HOUR, 24 * days) + 1)
        if hour > begun
    ]


def main() -> None:
    """Make all three listfiles, and link the series, in a folder that gets its name when it is complete."""
    data, out, *outcomes = map(Path, sys.argv[1:])
    days = lengths(outcomes)
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for folder in FOLDERS:
        (partial / folder).mkdir(parents=True)
    for split in SPLITS:
        rows = [LENGTH_OF_STAY.header]
        for name in pl.read_csv(listfile_of(data, split))["stay"]:
            series = data / folder_of(split) / name
            found = examples(series, days.get(name.partition("_")[0], 0))
            if found:
                os.link(series, partial / folder_of(split) / name)
            rows += found
        listfile_of(partial, split).write_text("\n".join(rows) + "\n")
    partial.rename(out)


if __name__ == "__main__":
    main()
