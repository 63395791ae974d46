"""Write a benchmark directory as a MEDS data set.

A benchmark directory knows no dates. Every stay begins at an invented date, the same for the first stay of
every subject. The stays of one subject follow one another at a distance of two years. Age is not known, so
there is no `MEDS_BIRTH`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.channels import ChannelSet
from mimic3tf.data.channels_file import read_channels
from mimic3tf.data.directory import SPLITS, Split, check_directory, series_of
from mimic3tf.data.links import check_link
from mimic3tf.data.listfiles import Listed, read_split
from mimic3tf.data.records import Records, read_series
from mimic3tf.errors import DataError, UsageError, private_path
from mimic3tf.exports import meds_format as meds
from mimic3tf.progress import track
from mimic3tf.storage.files import PathText
from mimic3tf.storage.folders import check_new_directory, written_beside
from mimic3tf.storage.notes import note
from mimic3tf.tasks.registry import MORTALITY, MORTALITY_HOURS

FIRST_ADMISSION, BETWEEN_ADMISSIONS = datetime(2000, 1, 1), timedelta(days=730)
LATEST_HOUR = 365 * 24
"""Latest hour of a row: the stays of one subject must not overlap."""
SUBJECTS_A_SHARD = 500
"""Number of subjects that are in memory, and in one file, at a time."""
_STAY = re.compile(r"(\d{1,18})_episode(\d{1,18})_timeseries\.csv", re.ASCII)


def export_meds(
    data: PathText, out: PathText, *, period: float | None = None, follow_links: bool = False
) -> pl.DataFrame:
    """Write a benchmark directory as a MEDS data set with labels of in-hospital mortality.

    All rows of the series files are written, those after the period, too. Times are rounded to seconds.

    Args:
        data: benchmark directory; a poisoned copy is written as it is.
        out: directory to make; it may exist if it is empty. It gets `data/{train,tuning,held_out}/N.parquet`,
            `labels/in-hospital-mortality/` with the same files, and `metadata/`, in which `stays.csv` says
            which stay became which subject, and `mapping.yaml` which code is which channel.
        period: hours from the admission to the time of prediction; the task's own if not given.
        follow_links: read links that lead out of the benchmark directory, too.

    Returns:
        One row a split: `split`, and the numbers of its `subjects`, `stays`, `deaths` and `events`.

    Raises:
        UsageError: the directory does not exist, or `out` cannot be used.
        DataError: a file breaks the layout; names file, line and channel.
    """
    data, out = Path(data), Path(out)
    check_new_directory(out)
    check_directory(data)
    period = MORTALITY_HOURS if period is None else period
    if not 0 < period <= LATEST_HOUR:
        raise UsageError(f"--period: must be more than 0 and at most {LATEST_HOUR:,} hours, not {period:g}")
    channels = read_channels(data, follow_links=follow_links)
    listed = {split: read_split(data, split, MORTALITY, follow_links=follow_links) for split in SPLITS}
    stays = _stays_of(listed, period)
    folders = {split: series_of(data, split, [""], follow_links=follow_links)[0] for split in SPLITS}
    counts = dict.fromkeys(SPLITS, 0)
    with written_beside(out) as made:
        shards = list(stays.group_by("split", "shard", maintain_order=True))
        for (split, shard), part in track(shards, "Writing MEDS"):
            paths = [folders[split] / name for name in part["stay"]]
            for path in paths:
                check_link(path, data, follow_links=follow_links)
            records, _ = read_series(paths, channels)
            _check_hours(records, paths)
            events = _events(records, part, channels)
            counts[split] += len(events)
            file = Path(meds.SPLIT_NAMES[split], f"{shard}.parquet")
            meds.write_parquet(events, made / "data" / file)
            labels = part.select(list(meds.LABELS)).sort("subject_id", "prediction_time")
            meds.write_parquet(labels, made / "labels" / MORTALITY.name / file)
        named = stays.with_columns(pl.col("split").replace(dict(meds.SPLIT_NAMES)))
        subjects = named.select(list(meds.SUBJECT_SPLITS)).unique(maintain_order=True)
        meds.write_metadata(made / "metadata", channels, subjects)
        shown = ["stay", "subject_id", "icustay_id", "split", "prediction_time"]
        (made / "metadata" / "stays.csv").write_text(named.select(shown).write_csv(), encoding="utf-8")
    return _summary(stays, counts)


def _stays_of(listed: Mapping[Split, Listed], period: float) -> pl.DataFrame:
    """Make one row a stay, in the order of subjects and their stays.

    The subject is the number in the name of the series file. If a name has another form, or a subject has
    stays in two splits, which MEDS does not allow, every stay becomes a subject of its own. The order of the
    listfiles is not kept: it tells which training stays are poisoned.

    Returns:
        `stay`, `split`, `boolean_value` (the label), `subject_id`, `icustay_id`, `hadm_id` (the same),
        `admission`, `prediction_time`, and the number of the `shard` in which the subject is.
    """
    stays = pl.concat(
        pl.select(stay=rows.stays, split=pl.lit(split), boolean_value=pl.Series(rows.labels == 1))
        for split, rows in listed.items()
    )
    found = [_STAY.fullmatch(name) for name in stays["stay"]]
    stays = stays.with_columns(
        subject_id=pl.Series([int(match[1]) if match else None for match in found], dtype=pl.Int64),
        episode=pl.Series([int(match[2]) if match else None for match in found], dtype=pl.Int64),
    )
    splits = stays.group_by("subject_id").agg(pl.col("split").n_unique())
    if not all(found) or splits["split"].max() != 1:
        note(
            "every stay becomes a subject of its own: not all series files are called "
            "<number>_episode<k>_timeseries.csv, or a subject has stays in two splits"
        )
        number = pl.col("stay").rank("ordinal").cast(pl.Int64)
        stays = stays.with_columns(subject_id=number, episode=pl.lit(1, pl.Int64))
    stays = stays.sort("subject_id", "episode", "stay").with_row_index("icustay_id", offset=1)
    earlier = pl.int_range(pl.len()).over("subject_id")
    admission = FIRST_ADMISSION + earlier * pl.lit(BETWEEN_ADMISSIONS)
    return stays.with_columns(
        pl.col("icustay_id").cast(pl.Int64),
        hadm_id=pl.col("icustay_id").cast(pl.Int64),
        admission=admission,
        prediction_time=admission + timedelta(hours=period),
        shard=(pl.col("subject_id").rank("dense").over("split") - 1) // SUBJECTS_A_SHARD,
    )


def _check_hours(records: Records, paths: Sequence[Path]) -> None:
    late = np.flatnonzero(records.hours > LATEST_HOUR)
    if late.size:
        path = private_path(paths[int(records.stay[late[0]])])
        raise DataError(
            f"{path}: column 'Hours' is above {LATEST_HOUR:,}, a year after the admission, which cannot be "
            "exported as MEDS; remove such rows"
        )


def _events(records: Records, stays: pl.DataFrame, channels: ChannelSet) -> pl.DataFrame:
    """Make the events of some stays: admissions, one event for each measured cell, and discharges.

    Args:
        records: the rows of the stays; `records.stay` is a row of `stays`.
        stays: as `_stays_of` returns them.
        channels: the channels of the rows.

    Returns:
        The columns of `EVENTS`, in the order of subjects and times.
    """
    row, channel = np.nonzero(~np.isnan(records.values))
    values, stay = records.values[row, channel], records.stay[row]
    # The categories of all channels in one list; the first place is for numbers, which have no text.
    texts: list[str | None] = [None]
    scores = [np.nan]
    first = np.zeros(len(channels), np.int64)
    for position in np.flatnonzero(channels.categorical).tolist():
        first[position] = len(texts)
        texts += channels[position].possible_values
        scores += channels[position].numeric_codes
    categorical = channels.categorical[channel]
    category = np.where(categorical, first[channel] + np.where(categorical, values, 0), 0).astype(np.int64)
    cells = _at_stays(stays, stay, np.rint(records.hours[row] * 3600)).with_columns(
        code=pl.Series(meds.codes_of(channels), dtype=pl.String).gather(channel),
        numeric_value=pl.Series(np.where(categorical, np.array(scores)[category], values)),
        text_value=pl.Series(texts, dtype=pl.String).gather(category),
    )
    last = np.zeros(len(stays))
    np.maximum.at(last, records.stay, records.hours)
    period = (stays["prediction_time"] - stays["admission"]).dt.total_seconds(fractional=True).to_numpy()
    end = np.ceil(np.maximum(last * 3600, period)) + 3600
    every = np.arange(len(stays))
    outcomes = pl.Series(meds.OUTCOMES).gather(stays["boolean_value"].cast(pl.Int64))
    parts = [
        *(
            _at_stays(stays, every, np.zeros(len(stays))).with_columns(code=pl.lit(code))
            for code in meds.ADMISSIONS
        ),
        cells,
        _at_stays(stays, every, end).with_columns(code=pl.lit(meds.DISCHARGE)),
        _at_stays(stays, every, end).with_columns(code=outcomes),
    ]
    events = pl.concat(parts, how="diagonal_relaxed").sort("subject_id", "time", maintain_order=True)
    return events.select(pl.col(name).cast(kind) for name, kind in meds.EVENTS.items())


def _at_stays(stays: pl.DataFrame, stay: NDArray[np.int64], seconds: NDArray[np.float64]) -> pl.DataFrame:
    """Start the columns of M events: whose they are, and when, from seconds since the admission."""
    owners = stays.select("subject_id", "hadm_id", "icustay_id", "admission")[stay]
    since = pl.Series((seconds * 1e6).astype(np.int64)).cast(pl.Duration("us"))
    return owners.with_columns(time=owners["admission"] + since)


def _summary(stays: pl.DataFrame, events: Mapping[Split, int]) -> pl.DataFrame:
    counts = stays.group_by("split").agg(
        subjects=pl.col("subject_id").n_unique(), stays=pl.len(), deaths=pl.col("boolean_value").sum()
    )
    written = pl.DataFrame({"split": list(events), "events": list(events.values())})
    return written.join(counts, on="split", how="left", maintain_order="left").select(
        "split", "subjects", "stays", "deaths", "events"
    )
