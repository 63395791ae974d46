"""Read a YAML file of settings, and remember the line of each setting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mimic3tf.errors import UsageError
from mimic3tf.storage.files import read_file

Location = tuple[str | int, ...]
"""Keys and list positions that lead from the top of the file to a value."""


LARGEST = 2**18
"""Largest file of settings in bytes; the largest of this package has about 1,000."""
MOST_DIGITS = 30
"""Most digits of a whole number; Python cannot even print a number of several thousand digits."""


class _Loader(yaml.SafeLoader):
    """Reads YAML without dates and aliases.

    No setting is a date: text that looks like a date stays text, and is later refused with its line. No
    setting needs aliases: with them, a short file of nested lists could expand without end.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="an alias (*name) is not read; write its value out", problem_mark=mark
            )
        return super().compose_node(parent, index)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MOST_DIGITS:
            raise yaml.MarkedYAMLError(problem="a number is too long", problem_mark=node.start_mark)
        return super().construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: node.value)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def read_option_file(option: str, path: Path) -> str:
    """Read the text of a file that an option names.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        return read_file(path, LARGEST).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} {path}: cannot be read: {error}") from None


def read_yaml(text: str, name: str) -> tuple[dict[str, Any], dict[Location, str]]:
    """Parse a YAML mapping.

    Args:
        text: the text of the YAML file.
        name: name of the file, for messages.

    Returns:
        The values, and the place of every key and list item, such as "paper.yaml, line 3".

    Raises:
        UsageError: the text is no YAML mapping, gives a key twice, or is too long for settings.
    """
    if len(text) > LARGEST:
        raise UsageError(f"{name}: longer than {LARGEST:,} characters, too long for settings")
    try:
        values = yaml.load(text, _Loader)
        node = yaml.compose(text, _Loader)
    except RecursionError:
        raise UsageError(f"{name}: not YAML of settings: nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:
        raise UsageError(f"{name}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or not isinstance(node, yaml.MappingNode):
        raise UsageError(f"{name}: expected lines of 'key: value'")
    places: dict[Location, str] = {}
    for location, mark in _places(node):
        place = f"{name}, line {mark.line + 1}"
        if location in places:
            raise UsageError(f"{place}: key '{location[-1]}' is given twice")
        places[location] = place
    return {str(key): value for key, value in values.items()}, places


def _places(node: yaml.Node, location: Location = ()) -> Iterator[tuple[Location, yaml.Mark]]:
    if isinstance(node, yaml.MappingNode):
        entries = [(key.value, key.start_mark, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        entries = [(item, value.start_mark, value) for item, value in enumerate(node.value)]
    else:
        return
    for key, mark, value in entries:
        yield (*location, key), mark
        yield from _places(value, (*location, key))


def place_of(places: Mapping[Location, str], location: Location) -> str | None:
    """Return the place of a value, or of the nearest list or mapping around it that has a place."""
    around = (location[:length] for length in range(len(location), 0, -1))
    return next((places[outer] for outer in around if outer in places), None)


def first_fault(error: ValidationError) -> ErrorDetails:
    """Return the first fault that pydantic found; from our own checks, the sentence without the value."""
    fault = error.errors()[0]
    if fault["type"] == "value_error":
        fault["msg"] = str(fault["ctx"]["error"]).removeprefix(f"{fault['input']!r}: ")
    return fault
