"""Write measured cells as a directory in the layout of the MIMIC-III benchmarks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from mimic3tf import __version__
from mimic3tf.channels import MIMIC3, TIME, ChannelSet
from mimic3tf.data.channels_file import CHANNELS_FILE, channels_text
from mimic3tf.data.directory import SPLITS, STAYS_FILE, Split, folder_of, lacking, listfile_of
from mimic3tf.data.records import LARGEST_SERIES
from mimic3tf.described import Described
from mimic3tf.errors import DataError, UsageError, private
from mimic3tf.progress import track
from mimic3tf.sources.channel_summary import ChannelSummary, summarize_channels
from mimic3tf.storage.files import PathText
from mimic3tf.storage.folders import check_new_directory, written_beside
from mimic3tf.storage.notes import warn
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.task import Task

SHARES: Mapping[str, float] = {"train": 0.70, "val": 0.15, "test": 0.15}
"""Share of the stays in each split, as in the benchmarks."""

PREPARED_FILE = "prepared.json"
"""File in a directory that says how the directory was made."""

SUMMARY_FILE = "summary.json"
"""File in a directory with its stays, deaths, what was left out, and each channel's values."""

PICTURE_FILE = "channels.png"
"""Picture in a directory of each channel's values."""

ROWS_A_BATCH = 50_000
"""Number of rows that are formatted at once; it bounds memory."""


@dataclass(frozen=True, repr=False)
class Samples(Described):
    """Some rows of a listfile.

    Attributes:
        rows: the rows, with the columns of the listfile; numbers get six decimals.
        labels: label -> 0 or 1 for every sample for which it is known.
    """

    rows: pl.DataFrame
    labels: Mapping[str, NDArray[np.integer]]


@dataclass(frozen=True, repr=False)
class PreparedCohort(Described):
    """A whole cohort, ready to be written.

    Attributes:
        stays: N file names, `<subject>_episode<k>_timeseries.csv`.
        labels: int [N], 1 where the patient died in hospital.
        splits: for each of `SPLITS`, indices of its stays in the order of its listfile.
        rows: column `stay` (index into `stays`), then the columns of `ChannelSet.header`; sorted by stay and
            Hours; a cell that was not measured is null. If the frame is lazy, only one batch of stays is in
            memory at a time.
        channels: the channels of the rows.
        task: the task of the listfiles.
        samples: for each split, the rows of its listfile; if None, those of in-hospital mortality are made
            of `labels`.
        details: what `STAYS_FILE` says of the N stays after their names and splits; None for no such file.
    """

    stays: Sequence[str]
    labels: NDArray[np.int64]
    splits: Mapping[str, NDArray[np.int64]]
    rows: pl.DataFrame | pl.LazyFrame
    channels: ChannelSet = MIMIC3
    task: Task = MORTALITY
    samples: Mapping[Split, Iterable[Samples]] | None = None
    details: pl.DataFrame | None = None


@dataclass(frozen=True)
class Summary:
    """What a source has written, and what it has left out.

    Attributes:
        out: the directory that was written.
        stays: number of stays of each split.
        deaths: number of in-hospital deaths of each split.
        dropped_stays: reason -> number of stays left out.
        dropped_values: reason -> number of measurements left out.
        channels: what the values of each channel look like.
        samples: number of samples of each split, for tasks that read whole stays: stays or hours.
        positives: label -> number of samples of each split that have it, for such tasks.
    """

    out: Path
    stays: dict[str, int]
    deaths: dict[str, int]
    dropped_stays: dict[str, int] = field(default_factory=dict)
    dropped_values: dict[str, int] = field(default_factory=dict)
    channels: tuple[ChannelSummary, ...] = ()
    samples: dict[str, int] = field(default_factory=dict)
    positives: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, object]:
        """Stays, deaths, what was left out, and samples with their labels."""
        names = ("stays", "deaths", "dropped_stays", "dropped_values")
        whole = ("samples", "positives") if self.samples else ()
        return {name: {**getattr(self, name)} for name in (*names, *whole)}


@dataclass
class _Listed:
    """The samples of a split's listfile: their number; label -> how often it is 1, and how often known."""

    samples: int = 0
    labels: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, samples: Samples) -> None:
        self.samples += len(samples.rows)
        for name, values in samples.labels.items():
            ones, known = self.labels.get(name, (0, 0))
            self.labels[name] = ones + int(values.sum()), known + len(values)


def random_split(n: int, seed: int, shares: Mapping[str, float] = SHARES) -> dict[str, NDArray[np.int64]]:
    """Assign stays to splits at random.

    The order within a split is random, too: poisoning takes the first stays of the training listfile, which
    must not be the oldest or the sickest ones.

    Args:
        n: number of stays.
        seed: non-negative int; fixes the splits and their order on every platform.
        shares: split -> share of the stays; the shares sum to 1.

    Returns:
        Split -> int64 [share * n], indices of its stays. The splits are disjoint; together they hold 0..n-1.

    Raises:
        UsageError: the seed is negative.
    """
    if seed < 0:
        raise UsageError(f"seed is {seed}; it cannot be negative")
    order = np.random.default_rng(seed).permutation(n).astype(np.int64)
    ends = np.rint(np.cumsum(list(shares.values())) * n).astype(np.int64)
    return dict(zip(shares, np.split(order, ends[:-1]), strict=True))


def rows_from_cells(
    stay: ArrayLike,
    minute: ArrayLike,
    channel: ArrayLike,
    value: ArrayLike,
    channels: ChannelSet = MIMIC3,
) -> pl.DataFrame:
    """Gather single measurements into rows: one row for each instant of a stay.

    Args:
        stay: int [M], index of the stay of each measurement.
        minute: int [M], minutes since admission to the ICU.
        channel: int [M], position in `channels`.
        value: float [M], in the channel's unit; for a category, its index in `possible_values`.
        channels: the channels of the rows.

    Returns:
        Rows as in `PreparedCohort.rows`. If a channel has two values at one instant, the later argument wins.
    """
    minutes = np.asarray(minute, np.int64)
    span = int(minutes.max(initial=0)) + 1
    instants, row = np.unique(np.asarray(stay, np.int64) * span + minutes, return_inverse=True)
    values = np.full((len(instants), len(channels)), np.nan)
    values[row, np.asarray(channel, np.int64)] = value
    columns = {"stay": pl.Series(instants // span), TIME: pl.Series(np.round(instants % span / 60, 6))}
    for description, numbers in zip(channels, values.T, strict=True):
        column = pl.Series(numbers).fill_nan(None)
        if description.is_categorical:
            texts = pl.Series(description.possible_values, dtype=pl.String)
            column = texts.gather(column.cast(pl.Int64))
        columns[description.name] = column
    return pl.DataFrame(columns)


def batches(counts: NDArray[np.int64], size: int) -> list[tuple[int, int]]:
    """Divide stays into batches of about `size` records; return the first stay of each, and that after it.

    Args:
        counts: int [N], number of records of each stay.
        size: number of records; only the last stay of a batch goes beyond it.
    """
    ends = np.flatnonzero(np.diff(np.cumsum(counts) // size, append=-1)) + 1
    return [*zip([0, *ends.tolist()], ends.tolist(), strict=False)]


def write_cohort(
    out: Path,
    records: PreparedCohort,
    source: str,
    options: Mapping[str, object],
    dropped_stays: Mapping[str, int],
    dropped_values: Mapping[str, int],
) -> Summary:
    """Write what a source has prepared: the benchmark directory, how it was made, and a summary of it.

    Args:
        out: as for `write_benchmark_directory`.
        records: as for `write_benchmark_directory`.
        source: name of the source, as `mimic3tf prepare` takes it.
        options: the source's options, as `PREPARED_FILE` is to tell them.
        dropped_stays: reason -> number of stays left out; reasons with a count of 0 are not written.
        dropped_values: reason -> number of measurements left out.

    Returns:
        What was written; also in `SUMMARY_FILE`, with a picture in `PICTURE_FILE`.

    Raises:
        UsageError: `out` cannot be written.
    """
    channels = summarize_channels(records.rows, len(records.stays), records.channels)
    with _new_directory(out) as directory:
        _draw(channels, directory / PICTURE_FILE)
        listed = _write(directory, records)
        summary = Summary(
            out,
            {split: len(records.splits[split]) for split in SPLITS},
            {split: int(records.labels[records.splits[split]].sum()) for split in SPLITS},
            {reason: count for reason, count in dropped_stays.items() if count},
            {reason: count for reason, count in dropped_values.items() if count},
            channels,
            *_counted(listed, records.task),
        )
        made = {"mimic3tf": __version__, "source": source, "options": {**options}, **summary.counts}
        _write_json(directory / PREPARED_FILE, made)
        told = [channel.record for channel in channels]
        _write_json(directory / SUMMARY_FILE, {**summary.counts, "channels": told})
    warn(*(_lacking(out, split, found) for split, found in listed.items()))
    return summary


def _counted(listed: Mapping[Split, _Listed], task: Task) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Count the samples and the labels of each split; of in-hospital mortality, they are stays and deaths."""
    if task.period is not None:
        return {}, {}
    names = dict.fromkeys(name for found in listed.values() for name in found.labels)
    positives: dict[str, dict[str, int]] = {
        name: {str(split): found.labels.get(name, (0, 0))[0] for split, found in listed.items()}
        for name in names
    }
    return {split: found.samples for split, found in listed.items()}, positives


def _lacking(out: Path, split: Split, listed: _Listed) -> str | None:
    """Say which labels all samples of a split share, and what to do about it; None if there are none."""
    if not listed.samples:
        return lacking(out, split, "lists no stay")
    alike = {name: ones == 0 for name, (ones, known) in listed.labels.items() if ones in (0, known)}
    if not alike:
        return None
    if len(listed.labels) == 1:
        return lacking(out, split, f"no stay has label {int(*alike.values())}")
    told = ", ".join(f"{name} (all {int(not never)})" for name, never in alike.items())
    return lacking(out, split, f"{len(alike)} of {len(listed.labels)} labels are the same everywhere: {told}")


def _draw(channels: Sequence[ChannelSummary], path: Path) -> None:
    # Imported here, because it takes a while, and not every user of this module draws.
    from mimic3tf.sources.channel_picture import draw_channels

    draw_channels(channels, path)


def write_benchmark_directory(out: PathText, records: PreparedCohort) -> None:
    """Write `{train,test}/<stay>`, the three listfiles, and `channels.yaml` unless the channels are `MIMIC3`.

    All files are written to a directory beside `out`, which is renamed at the end: an interrupted run leaves
    no `out` at all.

    Args:
        out: the directory to make; it may exist if it is empty.
        records: the cohort; every stay has at least one row and is in exactly one split.

    Raises:
        UsageError: `out` cannot be written.
    """
    with _new_directory(Path(out)) as directory:
        _write(directory, records)


@contextmanager
def _new_directory(out: Path) -> Iterator[Path]:
    check_new_directory(out)
    try:
        with written_beside(out) as directory:
            yield directory
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}") from None


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write(directory: Path, records: PreparedCohort) -> dict[Split, _Listed]:
    for folder in dict.fromkeys(map(folder_of, SPLITS)):
        (directory / folder).mkdir(parents=True)
    if records.channels != MIMIC3:
        (directory / CHANNELS_FILE).write_text(channels_text(records.channels), encoding="utf-8")
    files = sorted((int(stay), folder_of(split)) for split in SPLITS for stay in records.splits[split])
    if [stay for stay, _ in files] != list(range(len(records.stays))):
        raise ValueError("every stay has to be in exactly one split")
    header = (",".join(records.channels.header) + "\n").encode()
    progress = track(files, "Writing stays")
    for (stay, folder), text in zip(progress, _series(records), strict=True):
        if len(header) + len(text) > LARGEST_SERIES:
            raise DataError(
                f"stay {private(records.stays[stay])}: its rows take {len(text):,} bytes, and a series has "
                f"{LARGEST_SERIES:,} at most; write its values less often, such as once a minute"
            )
        with open(os.path.join(directory, folder, records.stays[stay]), "wb") as file:  # noqa: PTH118, PTH123
            file.writelines((header, text))
    if records.details is not None:
        _write_details(directory / STAYS_FILE, records)
    return {split: _write_listfile(listfile_of(directory, split), split, records) for split in SPLITS}


def _write_details(path: Path, records: PreparedCohort) -> None:
    splits = np.full(len(records.stays), "", object)
    for split, indices in records.splits.items():
        splits[indices] = split
    told = pl.DataFrame({"stay": records.stays, "split": pl.Series(splits, dtype=pl.String)})
    told = told if records.details is None else told.hstack(records.details)
    text = told.write_csv(float_precision=6, datetime_format="%Y-%m-%d %H:%M:%S")
    path.write_text(text, encoding="utf-8")


def _write_listfile(path: Path, split: Split, records: PreparedCohort) -> _Listed:
    """Write the listfile of a split, some stays at a time, and count its samples."""
    listed = _Listed()
    batches = [_mortality(split, records)] if records.samples is None else records.samples[split]
    with path.open("wb") as file:
        file.write(f"{records.task.header}\n".encode())
        for samples in batches:
            listed.add(samples)
            text = samples.rows.write_csv(include_header=False, float_precision=6, quote_style="never")
            file.write(text.encode())
    return listed


def _mortality(split: Split, records: PreparedCohort) -> Samples:
    indices = records.splits[split]
    labels = records.labels[indices]
    rows = pl.DataFrame({"stay": pl.Series(records.stays, dtype=pl.String).gather(indices), "y_true": labels})
    return Samples(rows, {"y_true": labels})


def _series(records: PreparedCohort) -> Iterator[memoryview]:
    """Yield the rows of each stay as CSV text; a batch of stays is formatted at once, then cut into stays."""
    rows = records.rows.lazy()
    # A channel that holds whole numbers only is written without decimals: "86", not "86.0".
    numbers = [name for name, kind in rows.collect_schema().items() if kind.is_float() and name != TIME]
    whole = rows.select((pl.col(numbers) == pl.col(numbers).round()).all()).collect(engine="streaming")
    integers = [name for name in numbers if whole[name].item()]
    counts = np.zeros(len(records.stays), np.int64)
    for stay, count in rows.group_by("stay").len().collect(engine="streaming").iter_rows():
        counts[stay] = count
    if not counts.all():
        raise ValueError("every stay needs at least one row")
    for start, end in batches(counts, ROWS_A_BATCH):
        batch = rows.filter((pl.col("stay") >= start) & (pl.col("stay") < end)).collect()
        text = (
            batch.select(records.channels.header)
            .cast(dict.fromkeys(integers, pl.Int64))
            .write_csv(include_header=False, quote_style="never")
            .encode()
        )
        line_ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")) + 1
        ends = line_ends[np.cumsum(counts[start:end]) - 1]
        view = memoryview(text)
        for first, last in zip([0, *ends[:-1]], ends, strict=True):
            yield view[first:last]
