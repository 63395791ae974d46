"""`mimic3tf report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.cli.checks import check_data, check_folders
from mimic3tf.cli.options import FollowLinks, Patient
from mimic3tf.startup import start_tensorflow


def report(
    results: Annotated[list[Path], typer.Option(help="Folder of a sweep; may be given several times.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html, figures/ and tables/.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Benchmark directory of the patient that is shown; the sweep's own if not given."),
    ] = None,
    patient: Patient = True,
    follow_links: FollowLinks = False,
) -> None:
    """Write the results of sweeps as a page with figures and tables.

    \b
    Examples:
      mimic3tf report --results sweeps/paper --out report
      mimic3tf report --results sweeps/paper --results sweeps/strengths --results sweeps/counts --out report
      mimic3tf report --results sweeps/paper --out report --no-patient
    """
    check_folders("--results", results, "run 'mimic3tf sweep' first")
    if data is not None and patient:
        check_data(data, "train", "test")
    from mimic3tf.report.page import check_report_folder, write_report
    from mimic3tf.report.stay import find_stay
    from mimic3tf.report.sweep import read_sweeps

    check_report_folder(out)
    sweeps = read_sweeps(results)
    stay, no_stay = (
        find_stay(sweeps, data, start_tensorflow, follow_links=follow_links)
        if patient
        else (None, "left out by --no-patient")
    )
    page = write_report(sweeps, out, stay=stay, no_stay=no_stay)
    typer.echo(f"wrote {page}, {out / 'figures'} and {out / 'tables'}")
