"""`mimic3tf results`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.cli.checks import check_folders, check_out

MOST_NAMED = 10
"""Largest number of runs without an attack that are named."""


def results(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, or folders that contain several.")],
    seeds: Annotated[
        bool, typer.Option("--over-seeds", help="One row for each setting: mean and range over its seeds.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for results.csv and results.json.")] = None,
) -> None:
    """Show the attacks of several runs in one table.

    There is one row for each attack, with its run and data.

    \b
    Examples:
      mimic3tf results runs
      mimic3tf results runs/lstm runs/lstm-clean --out tables
      mimic3tf results runs --over-seeds
    """
    check_folders("RUNS", runs, "run 'mimic3tf attack' first")
    check_out(out)
    from mimic3tf.tables.fitting import print_table
    from mimic3tf.tables.results import (
        ATTACK,
        collect_results,
        results_over_seeds,
        results_table,
        write_results,
    )

    table = collect_results(runs)
    if seeds:
        table = results_over_seeds(table)
    if out is not None:
        write_results(table, out)
    print_table(results_table(table))
    from mimic3tf.training.run_files import FINISHED

    found = sorted({file.parent for folder in runs for file in folder.rglob(FINISHED)})
    left_out = [str(run) for run in found if next(run.rglob(ATTACK), None) is None]
    if left_out:
        more = f" and {len(left_out) - MOST_NAMED} more" if len(left_out) > MOST_NAMED else ""
        typer.echo(f"Not shown, because they hold no attack: {', '.join(left_out[:MOST_NAMED])}{more}")
