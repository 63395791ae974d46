"""`mimic3tf audit-table`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.files import write_whole


def audit_table(
    audits: Annotated[list[Path], typer.Argument(help="Folders that hold audits, at any depth.")],
    out: Annotated[Path | None, typer.Option(help="Folder for audits.csv.")] = None,
) -> None:
    """Show several audits by attack and detector, means over seeds.

    \b
    Examples:
      mimic3tf audit-table audits
      mimic3tf audit-table audits/mlp audits/lr --out tables
    """
    from rich.console import Console

    from mimic3tf.report.audits import CAPTION, audits_tables, read_audits, summarize_audits

    summary = summarize_audits(read_audits(audits))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / "audits.csv", summary.write_csv())
    console = Console()
    # A pipe has no width; do not squeeze the table into 80 columns there.
    console = Console(width=console.width if console.is_terminal else 120, highlight=False)
    console.print(*audits_tables(summary), CAPTION, sep="\n")
