"""`mimic3tf audit-table`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.storage.files import write_whole


def audit_table(
    audits: Annotated[list[Path], typer.Argument(help="Folders that hold audits, at any depth.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for detectors.csv, models.csv and repairs.csv.")
    ] = None,
) -> None:
    """Show several audits by attack and defence, means over seeds.

    \b
    Examples:
      mimic3tf audit-table audits
      mimic3tf audit-table audits/mlp audits/lr --out tables
    """
    from mimic3tf.tables import audits as report
    from mimic3tf.tables.fitting import print_paragraph, print_table

    found = report.read_audits(audits)
    detectors = report.summarize_detectors(found.detectors)
    models, repairs = report.summarize_models(found.models), report.summarize_repairs(found.repairs)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name, summary in (("detectors", detectors), ("models", models), ("repairs", repairs)):
            write_whole(out / f"{name}.csv", summary.write_csv())
    for tables, caption in (
        (report.detectors_tables(detectors), report.CAPTION),
        ([report.models_table(models)], report.MODEL_CAPTION),
        (report.repairs_tables(repairs), report.REPAIR_CAPTION),
    ):
        for table in tables:
            print_table(table)
        if tables:
            print_paragraph(f"{caption}\n")
