"""Read a YAML file of settings, and remember on which line everything stands."""

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
"""Keys and list positions that lead to a value from the top."""


LARGEST = 2**18
"""Bytes of a file of settings; the longest of this package has some 1,000."""
MOST_DIGITS = 30
"""Of a whole number; Python cannot even print one of some thousands."""


class _Loader(yaml.SafeLoader):
    """No setting is a date: what looks like one stays text, so that it is refused with its line.

    Nor does a setting need aliases: lists of lists, each naming the one below ten times, would never end.
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
    """Text of a file that an option names.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return read_file(path, LARGEST).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} {path}: cannot be read: {error}") from None


def read_yaml(text: str, name: str) -> tuple[dict[str, Any], dict[Location, str]]:
    """Parse a YAML mapping.

    Args:
        text: its text.
        name: what to call it.

    Returns:
        Its values, and the place of every key and list item, such as "paper.yaml, line 3".

    Raises:
        UsageError: it is no YAML mapping, gives a key twice, or is too long for settings.
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
    """Place of a value, or of the nearest thing around it that has one."""
    around = (location[:length] for length in range(len(location), 0, -1))
    return next((places[outer] for outer in around if outer in places), None)


def first_fault(error: ValidationError) -> ErrorDetails:
    """What a model's check found first; of a check of our own the sentence only, without the value."""
    fault = error.errors()[0]
    if fault["type"] == "value_error":
        fault["msg"] = str(fault["ctx"]["error"]).removeprefix(f"{fault['input']!r}: ")
    return fault
