"""`mimic3tf cache`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from mimic3tf.storage.cache import cache_folder, clear_caches, list_caches
from mimic3tf.tables.cells import as_cell
from mimic3tf.tables.fitting import print_table


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
    table = Table(title=as_cell(str(cache_folder())))
    table.add_column("data")
    table.add_column("split")
    table.add_column("size", justify="right", no_wrap=True)
    for _, meta, size in list_caches():
        data, split = (as_cell(str(meta.get(name, "?"))) for name in ("data", "split"))
        table.add_row(data, split, f"{size / 1e6:,.1f} MB")
    print_table(table)
