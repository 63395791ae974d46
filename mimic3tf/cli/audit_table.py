"""`mimic3tf audit-table`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.cli.checks import check_folders, check_out
from mimic3tf.storage.files import write_whole


def audit_table(
    audits: Annotated[list[Path], typer.Argument(help="Folders that contain audits, at any depth.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for conclusions.csv, detectors.csv, models.csv and repairs.csv."),
    ] = None,
) -> None:
    """Show several audits in tables.

    First the conclusion of each, then attacks by defence, as means over seeds.

    \b
    Examples:
      mimic3tf audit-table audits
      mimic3tf audit-table audits/mlp audits/lr --out tables
    """
    check_folders("AUDITS", audits, "run 'mimic3tf audit' first")
    check_out(out)
    from mimic3tf.tables import audits as report
    from mimic3tf.tables.fitting import print_paragraph, print_table

    found = report.read_audits(audits)
    detectors = report.summarize_detectors(found.detectors)
    models, repairs = report.summarize_models(found.models), report.summarize_repairs(found.repairs)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        tables = {
            "conclusions": found.conclusions,
            "detectors": detectors,
            "models": models,
            "repairs": repairs,
        }
        for name, table in tables.items():
            write_whole(out / f"{name}.csv", table.write_csv())
    for shown, caption in (
        ([report.conclusions_table(found.conclusions)], report.CONCLUSION_CAPTION),
        (report.detectors_tables(detectors), report.CAPTION),
        ([report.models_table(models)], report.MODEL_CAPTION),
        (report.repairs_tables(repairs), report.REPAIR_CAPTION),
    ):
        for part in shown:
            print_table(part)
        if shown:
            print_paragraph(f"{caption}\n")
