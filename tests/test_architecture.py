"""Data flows one way: a file imports only what stands above it here, or earlier on its own line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "mimic3tf"
FLOORS = """
errors channels tasks
storage
data
victims
sources
poisoning
config standardization pipeline tables
training
attack
defences
dashboards sweeps report
cli
""".split()
"""Rooms from the ground up: a folder, or a file of the package itself."""


def rooms(name: str) -> str:
    """Room of a dotted module name."""
    return name.split(".")[1] if "." in name else ""


def imports(file: Path) -> Iterator[str]:
    """Dotted names of this package that a file imports, in functions and for type checkers, too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("mimic3tf."))
        elif isinstance(node, ast.ImportFrom) and node.module == "mimic3tf":
            yield from (f"mimic3tf.{alias.name}" for alias in node.names if alias.name != "__version__")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mimic3tf."):
            yield str(node.module)


def test_every_file_imports_from_above_only() -> None:
    backwards = []
    for file in sorted(PACKAGE.rglob("*.py")):
        place = file.relative_to(PACKAGE)
        room = place.parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        assert room in FLOORS, f"{place}: lies in no room of this list"
        backwards += [
            f"{place} imports {name}"
            for name in imports(file)
            if FLOORS.index(rooms(name)) > FLOORS.index(room)
            or {room, rooms(name)} == {"sources", "poisoning"}
        ]
    assert not backwards, "\n".join(backwards)
