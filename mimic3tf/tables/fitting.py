"""Fit tables to a terminal: text wraps, numbers do not, and columns that do not fit are stacked."""

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
"""Characters that a key keeps if possible, that other text keeps, and that a key keeps in any case."""
PARAGRAPH = 100
"""Least width of a caption in characters, if nothing limits the width."""


def print_table(table: Table) -> None:
    """Print a table so that no number is cut.

    The leading columns that are aligned to the left are keys: they name a row. A column with `no_wrap` is
    never cut; keys and other text wrap. Columns that do not fit side by side follow in another block of rows,
    which repeats the keys. If the keys do not fit, or two rows have the same keys, rows are numbered.

    A pipe has no width: a row is printed on one line, unless the variable COLUMNS gives a width.

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
    # A line may be wider than the terminal, which then breaks it: no digit is lost.
    console = Console(highlight=False, width=max(width, _needed(least, keys)))
    if table.title:
        console.print(table.title, style="bold", width=width)
    for block in blocks:
        console.print(_part(table, widths, block, keys), "")
    if table.caption:
        console.print(table.caption, style="dim", width=width)


def print_paragraph(text: str) -> None:
    """Print a text below tables, wrapped to the width of the terminal."""
    console = Console(highlight=False)
    console.print(text, width=_width_of(console) or PARAGRAPH)


def separate_common(columns: Mapping[str, Sequence[str]]) -> tuple[dict[str, Sequence[str]], str]:
    """Remove the columns of a table that have the same cell in every row.

    Args:
        columns: heading -> cells.

    Returns:
        The remaining columns, and a sentence about the removed ones; "" if none was removed.
    """
    differing = {heading: cells for heading, cells in columns.items() if len(set(cells)) > 1}
    same = [f"{heading} {cells[0]}" for heading, cells in columns.items() if len(set(cells)) == 1]
    return differing, f"All rows: {', '.join(same)}." if same else ""


def _width_of(console: Console) -> int | None:
    """Return the characters of a line; None in a pipe, unless COLUMNS gives a width."""
    return console.width if console.is_terminal or "COLUMNS" in os.environ else None


def _width(*cells: object) -> int:
    """Return the width of the widest cell in characters."""
    console = Console(width=10_000)
    return max(Measurement.get(console, console.options, cell).maximum for cell in cells)  # type: ignore[arg-type]


def _side_by_side(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _keys(table: Table) -> int:
    """Return the number of leading columns that name a row."""
    return [*(column.justify == "left" for column in table.columns), False].index(False)


def _tell_rows_apart(table: Table, keys: int) -> bool:
    names = list(zip(*(column.cells for column in table.columns[:keys]), strict=True))
    return len(set(names)) == len(table.rows)


def _least(table: Table, widths: Sequence[int], keys: int, width: int) -> list[int]:
    """Return the least width of every column: all characters of a number, some of a text."""
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
    """Return the width of the keys and the widest other column side by side."""
    return _side_by_side([*least[:keys], max(least[keys:], default=0)])


def _blocks(least: Sequence[int], keys: int, width: int) -> list[list[int]]:
    """Split columns into blocks that fit, by position; every block starts with the keys."""
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
    """Make the same table with a first column that numbers its rows."""
    numbered = Table(title=table.title, caption=table.caption)
    numbered.add_column("row")
    for column in table.columns:
        numbered.add_column(column.header, justify=column.justify, no_wrap=column.no_wrap)
    rows = zip(table.rows, *(column.cells for column in table.columns), strict=True)
    for number, (row, *cells) in enumerate(rows, start=1):
        numbered.add_row(str(number), *cells, style=row.style, end_section=row.end_section)
    return numbered


def _part(table: Table, widths: Sequence[int], positions: Sequence[int], keys: int) -> Table:
    """Make a table of some columns, without title, caption and frame."""
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
