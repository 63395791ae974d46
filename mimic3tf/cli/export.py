"""`mimic3tf export`: write a benchmark directory in the formats that other pipelines read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimic3tf.cli.options import Data, FollowLinks, Period, Timestep, check_hours

if TYPE_CHECKING:
    import polars as pl

app = typer.Typer(
    help="Write a data directory as MEDS or as NumPy arrays.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
PredictionHour = Annotated[
    float | None,
    typer.Option("--period", min=0, help="Hours from admission to prediction; the task's own if not given."),
]
Out = Annotated[Path, typer.Option(help="Directory to make; it must not contain files yet.")]


@app.command()
def meds(data: Data, out: Out, period: PredictionHour = None, follow_links: FollowLinks = False) -> None:
    """Write a MEDS data set (Medical Event Data Standard).

    Makes data/{train,tuning,held_out}/N.parquet, labels of in-hospital mortality with the hour of prediction
    (labels/in-hospital-mortality), and metadata/. A measured cell is an event with the code
    CHANNEL//<name>//<unit>; a category has its text as text_value and its clinical score as numeric_value.

    A benchmark directory knows no dates, ages, or times of discharge. Dates are invented: the first stay of
    every subject begins on 2000-01-01. The discharges come an hour after the period and the last measurement;
    HOSPITAL_DISCHARGE//DIED or //ALIVE is the label, so a model must not read beyond the time of prediction.
    metadata/stays.csv says which stay became which subject.

    \b
    Examples:
      mimic3tf export meds --data data/synthetic --out meds/clean
      mimic3tf export meds --data data/poisoned --out meds/poisoned
    """
    check_hours(period, "--period")
    from mimic3tf.exports.meds import export_meds

    _print_export(out, export_meds(data, out, period=period, follow_links=follow_links))


@app.command()
def arrays(
    data: Data, out: Out, period: Period = None, timestep: Timestep = 1.0, follow_links: FollowLinks = False
) -> None:
    """Write NumPy arrays: train.npz, val.npz and test.npz.

    Each holds x, y, ids and channels. x [N, T, C] holds the last measurement of each bin, NaN where nothing
    was measured. A category is its index in the list of categories in channels.yaml, which is written beside
    the arrays. 'mimic3tf audit --arrays' and mimic3tf.cohort_of_arrays read these arrays.

    \b
    Examples:
      mimic3tf export arrays --data data/synthetic --out arrays/clean
      mimic3tf export arrays --data data/poisoned --out arrays/poisoned
      mimic3tf audit --arrays arrays/poisoned/train.npz \\
        --trusted arrays/poisoned/val.npz --out audits/arrays
    """
    check_hours(period, "--period")
    check_hours(timestep, "--timestep")
    from mimic3tf.exports.arrays import export_arrays

    summary = export_arrays(data, out, period=period, timestep=timestep, follow_links=follow_links)
    _print_export(out, summary)


def _print_export(out: Path, summary: pl.DataFrame) -> None:
    """Print what was written, one row a split; shares are in percent."""
    from rich.table import Table

    from mimic3tf.tables.cells import as_cell
    from mimic3tf.tables.fitting import print_table

    table = Table(title=as_cell(str(out)))
    for heading in summary.columns:
        number = heading != "split"
        table.add_column(heading, justify="right" if number else "left", no_wrap=number)
    for row in summary.rows():
        table.add_row(*(f"{cell:.1%}" if isinstance(cell, float) else str(cell) for cell in row))
    print_table(table)
