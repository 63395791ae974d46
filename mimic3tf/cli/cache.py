"""`mimic3tf cache`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mimic3tf.storage.cache import cache_folder, clear_caches, list_caches


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all cached cohorts.")] = False,
) -> None:
    """List the cached cohorts. They hold names and measurements of stays.

    A removed cohort is read again when it is needed. Only you can read the cache. The variable
    MIMIC3TF_CACHE names another folder for it.

    \b
    Examples:
      mimic3tf cache
      mimic3tf cache --clear
    """
    if clear:
        typer.echo(f"removed {clear_caches()} cached cohorts from {cache_folder()}")
        return
    table = Table(title=str(cache_folder()))
    table.add_column("data", overflow="fold")
    table.add_column("split")
    table.add_column("size", justify="right", no_wrap=True)
    for _, meta, size in list_caches():
        table.add_row(str(meta.get("data", "?")), str(meta.get("split", "?")), f"{size / 1e6:,.1f} MB")
    Console().print(table)
