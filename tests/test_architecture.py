"""Imports go in one direction and form no circle, and no function is too long."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "mimic3tf"
ROOMS = (
    *("errors", "described", "progress", "startup", "channels", "tasks"),
    "storage",
    "data",
    "victims",
    "sources",
    "exports",
    "poisoning",
    *("config", "standardization", "pipeline", "tables"),
    "training",
    "attacks",
    "defences",
    *("dashboards", "sweeps", "report"),
    "api",
    "audit",
    *("cli", "__main__"),
)
"""Rooms: folders and files of the package. A file imports only from its own room and from earlier rooms."""
LONGEST, LONGEST_COMMAND = 60, 100
"""Most lines of a function, and of a function in `cli/`, where every option is a parameter."""
LONG = {
    "invert_trigger": "one optimization, whose steps share ten local arrays",
    "model": "two thirds of it describe its arguments",
    "keras_model": "two thirds of it describe its arguments",
    "poison_records": "half of it is the description of its arguments",
    "prepare_physionet2012": "half of it is the description of its arguments",
    "generate_trigger": "two thirds of it describe its arguments",
}
"""Function that is longer -> the reason."""


FILES = {
    ".".join(("mimic3tf", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
    if file != PACKAGE / "__init__.py"
}


def room_of(module: str) -> int:
    """Index of a module's room in `ROOMS`."""
    return ROOMS.index(module.split(".")[1])


def imports(file: Path) -> Iterator[tuple[str, str]]:
    """Modules of this package that a file imports, and the imported names; imports inside functions count."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "*") for alias in node.names if alias.name.startswith("mimic3tf."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mimic3tf"):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in FILES or node.module in FILES or node.module != "mimic3tf":
                    yield name if name in FILES else str(node.module), alias.name


def test_every_file_imports_from_before_its_room_only() -> None:
    backwards = [
        f"{module} imports {name} from {source}"
        for module, file in FILES.items()
        for source, name in imports(file)
        if room_of(source) > room_of(module)
        or {"sources", "poisoning"} <= {*module.split("."), *source.split(".")}
    ]
    assert not backwards, "\n".join(backwards)


def test_no_imports_run_in_a_circle() -> None:
    # `static_order` raises an error that names the circle.
    sources = {module: {source for source, _ in imports(file)} for module, file in FILES.items()}
    order = list(TopologicalSorter(sources).static_order())
    assert set(FILES) <= set(order)


def test_no_function_is_longer_than_a_screen_without_a_reason() -> None:
    lengths = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for module, file in FILES.items()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and (node.end_lineno or 0) - node.lineno >= (LONGEST_COMMAND if ".cli." in module else LONGEST)
    }
    assert set(lengths) == set(LONG), lengths
    assert max(lengths.values()) <= LONGEST_COMMAND
