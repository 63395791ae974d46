"""Write text files whole or not at all."""

from __future__ import annotations

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text file beside its place and rename it: nothing half-written is ever found there.

    Args:
        path: file to write, in a folder that exists; an existing one is replaced.
        text: its contents, with line feeds; written in UTF-8.
    """
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    partial.replace(path)
