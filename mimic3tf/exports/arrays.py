"""Write a benchmark directory as NumPy arrays, in the form that `mimic3tf.cohort_of_arrays` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from mimic3tf.data.arrays import array_of_cohort
from mimic3tf.data.channels_file import CHANNELS_FILE, channels_text
from mimic3tf.data.cohort import TIMESTEP
from mimic3tf.data.directory import SPLITS, check_directory
from mimic3tf.data.loading import load_cohort
from mimic3tf.storage.files import PathText
from mimic3tf.storage.folders import check_new_directory, written_beside


def export_arrays(
    data: PathText,
    out: PathText,
    *,
    period: float | None = None,
    timestep: float = TIMESTEP,
    follow_links: bool = False,
) -> pl.DataFrame:
    """Write a benchmark directory as arrays, one `.npz` file a split.

    `train.npz`, `val.npz` and `test.npz` hold the N stays of a split in the order of its listfile:

    - `x`, float32 [N, T, C]: the last measurement of each bin in the channel's unit, NaN where nothing was
      measured. A category is its index in the channel's `categories` in `channels.yaml`.
    - `y`, int64 [N]: the labels.
    - `ids`, texts [N]: the names of the series files.
    - `channels`, texts [C]: the names of the channels.

    Args:
        data: benchmark directory; a poisoned copy is written as it is.
        out: directory to make; it may exist if it is empty. It also gets `channels.yaml`: the channels with
            their units and categories.
        period: hours of a stay that are read; the task's own if not given.
        timestep: hours of a bin.
        follow_links: read links that lead out of the benchmark directory, too.

    Returns:
        One row a split: `split`, `stays`, `deaths`, `bins`, `channels`, and `measured`, the share of cells.

    Raises:
        UsageError: the directory does not exist, or `out` cannot be used.
        DataError: a file breaks the layout; names file, line and channel.
    """
    data, out = Path(data), Path(out)
    check_new_directory(out)
    check_directory(data)
    rows = []
    with written_beside(out) as made:
        for split in SPLITS:
            cohort = load_cohort(data, split, period=period, timestep=timestep, follow_links=follow_links)
            x = array_of_cohort(cohort)
            names = np.array(cohort.channels.names)
            np.savez(made / f"{split}.npz", x=x, y=cohort.labels, ids=cohort.stays, channels=names)
            rows.append((split, len(x), int(cohort.labels.sum()), *x.shape[1:], float(cohort.mask.mean())))
        (made / CHANNELS_FILE).write_text(channels_text(cohort.channels), encoding="utf-8")
    return pl.DataFrame(rows, ["split", "stays", "deaths", "bins", "channels", "measured"], orient="row")
