"""`mimic3tf report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.cli.checks import check_data, check_folders
from mimic3tf.cli.options import FollowLinks, Patient
from mimic3tf.errors import UsageError
from mimic3tf.startup import start_tensorflow


def report(
    out: Annotated[Path, typer.Option(help="Folder for report.html, figures/ and tables/.")],
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of runs, of audits, or of sweeps; or folders that hold several."),
    ] = None,
    results: Annotated[
        list[Path] | None, typer.Option(help="Folder of a sweep; may be given several times.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Benchmark directory of the patient that is shown; the sweep's own if not given."),
    ] = None,
    patient: Patient = True,
    follow_links: FollowLinks = False,
) -> None:
    """Write a page of runs, audits or sweeps.

    It has figures and the tables behind them, and shows runs side by side, with audits, or sweeps. A page
    of runs shows the settings that differ, metrics, success rates, the course of training and the triggers;
    it shows no patient's record.

    \b
    Examples:
      mimic3tf report runs/mlp runs/mlp-clean --out report
      mimic3tf report runs/mlp runs/mlp-clean audits/mlp --out report
      mimic3tf report --results sweeps/paper --out report
      mimic3tf report --results sweeps/paper --results sweeps/strengths \\
        --results sweeps/counts --out report
      mimic3tf report --results sweeps/paper --out report --no-patient
    """
    check_folders("--results", results or (), "run 'mimic3tf sweep' first")
    if data is not None and patient:
        check_data(data, "train", "test")
    from mimic3tf.report.audits import audits_section
    from mimic3tf.report.comparison import report_of_runs
    from mimic3tf.report.page import check_report_folder, write_report
    from mimic3tf.report.runs import read_runs, sort_folders
    from mimic3tf.report.sections import report_of_sweeps
    from mimic3tf.report.stay import find_stay
    from mimic3tf.report.sweep import read_sweeps
    from mimic3tf.tables.audits import read_audits

    if not (folders or results):
        raise UsageError("name what to report: folders of runs or audits, or --results with a sweep's folder")
    check_report_folder(out)
    found = sort_folders(folders or [], results or [])
    if found.sweeps:
        sweeps = read_sweeps(found.sweeps, found.audits)
        stay, no_stay = (
            find_stay(sweeps, data, start_tensorflow, follow_links=follow_links)
            if patient
            else (None, "left out by --no-patient")
        )
        shown = report_of_sweeps(sweeps, stay, no_stay)
    else:
        audits = read_audits(found.audits) if found.audits else None
        section = audits_section(found.audits, audits) if audits else None
        tasks = audits.conclusions["task"].to_list() if audits else []
        shown = report_of_runs(read_runs(found.runs), section, tasks)
    page = write_report(shown, out)
    typer.echo(f"wrote {page}, {out / 'figures'} and {out / 'tables'}")
