"""Fit tables to a terminal: text wraps, numbers never do, and columns without room are stacked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

GAP = 2
"""Blanks between two columns."""
KEY, TEXT, NARROWEST = 20, 12, 6
"""Characters that a key and another text keep before columns are stacked, and that a key keeps at last."""
PARAGRAPH = 100
"""Characters that a caption may be wide at least, where nothing limits the width."""


def print_table(table: Table) -> None:
    """Print a table so that no number is cut.

    The leading columns that are aligned to the left name a row: they are its keys. A column with `no_wrap` is
    never cut; keys and other text wrap. Where columns do not fit side by side, they follow in a further block
    of rows, with the keys once more. Where keys have no room or name two rows alike, rows are numbered.

    A pipe has no width: there, unless COLUMNS names one, a row is one line.

    Args:
        table: title, columns, rows and caption.
    """
    console = Console(highlight=False)
    widths = [_width(column.header, *column.cells) for column in table.columns]
    whole = _side_by_side(widths)
    width = _width_of(console) or max(whole, PARAGRAPH, _width(table.title or ""))
    keys, blocks = _keys(table), [[*range(len(table.columns))]]
    least = _least(table, widths, keys, width)
    if whole > width:
        if not _tell_rows_apart(table, keys) or _needed(least, keys) > width:
            table, keys = _numbered(table), 1
            widths = [_width(*table.columns[0].cells, table.columns[0].header), *widths]
            least = _least(table, widths, keys, width)
        blocks = _blocks(least, keys, width)
    # Rather let the terminal break a line than lose a digit.
    console = Console(highlight=False, width=max(width, _needed(least, keys)))
    if table.title:
        console.print(table.title, style="bold", width=width)
    for block in blocks:
        console.print(_part(table, widths, block, keys), "")
    if table.caption:
        console.print(table.caption, style="dim", width=width)


def print_paragraph(text: str) -> None:
    """Print a text below tables."""
    console = Console(highlight=False)
    console.print(text, width=_width_of(console) or PARAGRAPH)


def separate_common(columns: Mapping[str, Sequence[str]]) -> tuple[dict[str, Sequence[str]], str]:
    """Take those columns out of a table that say the same in every row.

    Args:
        columns: heading -> cells.

    Returns:
        The columns that differ, and a sentence about the others; "" if there are none.
    """
    differing = {heading: cells for heading, cells in columns.items() if len(set(cells)) > 1}
    same = [f"{heading} {cells[0]}" for heading, cells in columns.items() if len(set(cells)) == 1]
    return differing, f"All rows: {', '.join(same)}." if same else ""


def _width_of(console: Console) -> int | None:
    """Characters of a line; None in a pipe, unless COLUMNS names a width."""
    return console.width if console.is_terminal or "COLUMNS" in os.environ else None


def _width(*cells: object) -> int:
    """Characters of the widest of some cells."""
    console = Console(width=10_000)
    return max(Measurement.get(console, console.options, cell).maximum for cell in cells)  # type: ignore[arg-type]


def _side_by_side(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _keys(table: Table) -> int:
    """Number of leading columns that name a row."""
    return [*(column.justify == "left" for column in table.columns), False].index(False)


def _tell_rows_apart(table: Table, keys: int) -> bool:
    names = list(zip(*(column.cells for column in table.columns[:keys]), strict=True))
    return len(set(names)) == len(table.rows)


def _least(table: Table, widths: Sequence[int], keys: int, width: int) -> list[int]:
    """Characters that every column needs: all of a number, some of a text."""
    values = [
        natural if column.no_wrap else min(natural, TEXT)
        for natural, column in zip(widths[keys:], table.columns[keys:], strict=True)
    ]
    least = [*widths[:keys]]
    for most in range(KEY, NARROWEST - 1, -1):
        least = [min(natural, most) for natural in widths[:keys]]
        if _side_by_side([*least, max(values, default=0)]) <= width:
            break
    return least + values


def _needed(least: Sequence[int], keys: int) -> int:
    """Characters of the keys and the widest other column."""
    return _side_by_side([*least[:keys], max(least[keys:], default=0)])


def _blocks(least: Sequence[int], keys: int, width: int) -> list[list[int]]:
    """Positions of the columns that stand side by side, the keys first in every block."""
    names = list(range(keys))
    blocks = [list(names)]
    for position in range(keys, len(least)):
        wider = [*blocks[-1], position]
        if len(blocks[-1]) > keys and _side_by_side([least[at] for at in wider]) > width:
            wider = [*names, position]
            blocks.append(wider)
        blocks[-1] = wider
    return blocks


def _numbered(table: Table) -> Table:
    """The same table with numbers of its rows in front."""
    numbered = Table(title=table.title, caption=table.caption)
    numbered.add_column("row")
    for column in table.columns:
        numbered.add_column(column.header, justify=column.justify, no_wrap=column.no_wrap)
    rows = zip(table.rows, *(column.cells for column in table.columns), strict=True)
    for number, (row, *cells) in enumerate(rows, start=1):
        numbered.add_row(str(number), *cells, style=row.style, end_section=row.end_section)
    return numbered


def _part(table: Table, widths: Sequence[int], positions: Sequence[int], keys: int) -> Table:
    """Some columns of a table, and nothing around them."""
    part = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    chosen = [table.columns[position] for position in positions]
    for position, column in zip(positions, chosen, strict=True):
        hard = column.no_wrap and position >= keys
        part.add_column(
            column.header,
            justify=column.justify,
            no_wrap=hard,
            min_width=widths[position] if hard else None,
            overflow="fold",
        )
    for row, *cells in zip(table.rows, *(column.cells for column in chosen), strict=True):
        part.add_row(*cells, style=row.style, end_section=row.end_section)
    return part
