"""The Typer application with all subcommands."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mimic3tf import __version__
from mimic3tf.cli import (
    attack,
    audit,
    audit_table,
    cache,
    evaluate,
    export,
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
from mimic3tf.errors import REDACT

ORDER = (
    *("prepare", "generate-trigger", "train", "attack", "results", "report"),
    *("poison", "audit", "audit-table", "stealth", "evaluate", "sweep"),
    *("export", "import-checkpoint", "cache"),
)
"""The commands as the help lists them: the workflow first."""


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        """List the commands in `ORDER`; typer lists those with subcommands last."""
        return sorted(self.commands, key=ORDER.index)


app = typer.Typer(
    name="mimic3tf",
    cls=_Commands,
    help="Backdoor attacks on ICU mortality models, and whether you would notice them.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mimic3tf {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
    redact: Annotated[
        bool,
        typer.Option(
            "--redact", envvar=REDACT, help="Show no names of stays and no contents of cells in messages."
        ),
    ] = False,
) -> None:
    """Set the options that belong to all commands."""
    os.environ[REDACT] = "1" if redact else "0"


app.add_typer(prepare.app, name="prepare")
app.add_typer(export.app, name="export")
app.command("generate-trigger")(generate_trigger.generate_trigger)
app.command("poison")(poison.poison)
app.command("train")(train.train)
app.command("import-checkpoint")(import_checkpoint.import_checkpoint)
app.command("attack")(attack.attack)
app.command("evaluate")(evaluate.evaluate)
app.command("audit")(audit.audit)
app.command("audit-table")(audit_table.audit_table)
app.command("cache")(cache.cache)
app.command("stealth")(stealth.stealth)
app.command("results")(results.results)
app.command("sweep")(sweep.sweep)
app.command("report")(report.report)
