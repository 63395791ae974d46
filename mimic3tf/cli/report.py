"""`mimic3tf report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimic3tf.errors import UsageError

if TYPE_CHECKING:
    from mimic3tf.report.patterns import Stay
    from mimic3tf.report.sweep import Sweeps


def report(
    results: Annotated[list[Path], typer.Option(help="Folder of a sweep; may be given several times.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html, figures/ and tables/.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Benchmark directory of the patient shown; the sweep's own if not given."),
    ] = None,
    patient: Annotated[
        bool,
        typer.Option(
            "--patient/--no-patient",
            help="Show one patient's record, which a licence may keep you from passing on.",
        ),
    ] = True,
) -> None:
    """Write a sweep's results as a page with figures and tables.

    \b
    Examples:
      mimic3tf report --results sweeps/paper --out report
      mimic3tf report --results sweeps/paper --results sweeps/strengths --results sweeps/counts --out report
      mimic3tf report --results sweeps/paper --out report --no-patient
    """
    from mimic3tf.report.page import check_report_folder, write_report
    from mimic3tf.report.sweep import read_sweeps

    check_report_folder(out)
    sweeps = read_sweeps(results)
    stay, no_stay = _stay(sweeps, data) if patient else (None, "left out by --no-patient")
    page = write_report(sweeps, out, stay=stay, no_stay=no_stay)
    typer.echo(f"wrote {page}, {out / 'figures'} and {out / 'tables'}")


def _stay(sweeps: Sweeps, data: Path | None) -> tuple[Stay | None, str]:
    """A patient of the sweep's data where they are at hand, else why not."""
    if "temporal" not in sweeps.triggers:
        return None, "the sweep's folder holds no temporal trigger"
    named = data or next((sweep.data for sweep in sweeps.sweeps if sweep.data), None)
    if named is None:
        return None, "sweep.yaml names no data directory; give it as --data"
    if data is None and not named.is_dir():
        return None, f"the sweep's data directory {named} is not there any more; give its place as --data"

    from mimic3tf.cli.startup import start_tensorflow

    start_tensorflow()
    from mimic3tf.report.sections import strongest
    from mimic3tf.report.stay import most_measured_stay

    try:
        return most_measured_stay(named, sweeps.triggers["temporal"], strongest(sweeps.results)), ""
    except UsageError as error:
        if data is not None:
            raise
        # The sweep's directory may have changed since; the results have not.
        return None, str(error)
