"""The command line: one thin file a subcommand."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer
from rich.console import Console

from mimic3tf.cli import (
    attack,
    audit,
    audit_table,
    generate_trigger,
    import_checkpoint,
    poison,
    prepare,
    report,
    results,
    stealth,
    sweep,
    train,
)
from mimic3tf.errors import UserError, printable

app = typer.Typer(
    name="mimic3tf",
    help="Backdoor attacks on ICU mortality models, and whether you would notice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(prepare.app, name="prepare")
app.command("generate-trigger")(generate_trigger.generate_trigger)
app.command("poison")(poison.poison)
app.command("train")(train.train)
app.command("import-checkpoint")(import_checkpoint.import_checkpoint)
app.command("attack")(attack.attack)
app.command("audit")(audit.audit)
app.command("audit-table")(audit_table.audit_table)
app.command("stealth")(stealth.stealth)
app.command("results")(results.results)
app.command("sweep")(sweep.sweep)
app.command("report")(report.report)


def main() -> None:
    """Run the command line; a user's mistake ends in one line and status 1 or 2."""
    try:
        app()
    except UserError as error:
        _fail(str(error), error.exit_status)
    except OSError as error:
        # An output that cannot be written: no permission, a file in place of a folder, a full disk.
        place = error.filename2 or error.filename
        _fail(f"{place}: {error.strerror}" if place else str(error), UserError.exit_status)


def _fail(message: str, status: int) -> NoReturn:
    # A name may hold a line break, and a damaged file anything.
    line = printable(message)
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"error: {line}")
    sys.exit(status)
