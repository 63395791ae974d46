"""`channels.yaml` says what a directory's series hold, or is refused with the line of its fault."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimic3tf.channels import ANY_VALUE, MIMIC3, TIME, Channel, ChannelSet
from mimic3tf.data.channels_file import (
    CHANNELS_FILE,
    MOST_DECIMALS,
    channels_text,
    parse_channels,
    read_channels,
)
from mimic3tf.data.records import LARGEST_VALUE
from mimic3tf.errors import DataError, UsageError

EXAMPLE = """
name: bedside monitor
channels:
  - name: Heart Rate
    unit: 1/min
    normal: 86
    plausible: [15, 300]
    decimals: 0
  - name: Temperature
    normal: 36.6
    decimals: {shift: 1, sum: 2}
  - name: Consciousness
    normal: alert
    plausible: [1, 4]
    categories: {alert: 4, verbal: 3, pain: 2, unresponsive: 1}
"""
MONITOR = ChannelSet(
    "bedside monitor",
    (
        Channel("Heart Rate", "1/min", "86", (), (), (15.0, 300.0), 0, 0),
        Channel("Temperature", "", "36.6", (), (), ANY_VALUE, 1, 2),
        Channel(
            "Consciousness",
            "",
            "alert",
            ("alert", "verbal", "pain", "unresponsive"),
            (4, 3, 2, 1),
            (1.0, 4.0),
        ),
    ),
)


def test_the_example_is_read_as_it_is_described() -> None:
    assert parse_channels(EXAMPLE, "channels.yaml") == MONITOR


def test_a_set_without_a_name_gets_one() -> None:
    assert (
        parse_channels(EXAMPLE.replace("name: bedside monitor", ""), "channels.yaml").name == "own channels"
    )


# --- There and back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [MIMIC3, MONITOR], ids=lambda channels: channels.name)
def test_a_set_is_read_back_as_it_was_written(channels: ChannelSet) -> None:
    assert parse_channels(channels_text(channels), "channels.yaml") == channels


def _is_name(text: str) -> bool:
    return text == text.strip() and text.isprintable() and "," not in text and "->" not in text


NAMES = st.one_of(
    # What YAML would read as something else than text.
    st.sampled_from(
        ["yes", "no", "null", "~", "=", "<<", "1", "1.0", "0o7", "1_0", "1e5", ".nan", "2020-01-01"]
    ),
    st.sampled_from(
        ["#", "- a", "a: b", "{a}", "[a]", "&a", "*a", "!a", "'", '"', "a #b", "?", "%", "@", "`"]
    ),
    st.text(min_size=1, max_size=12).filter(_is_name),
    st.lists(st.text("ab ", min_size=1, max_size=9), min_size=9, max_size=20)
    .map("  x ".join)
    .filter(_is_name),
)
NUMBERS = st.one_of(st.integers(-(10**18), 10**18), st.floats(-LARGEST_VALUE, LARGEST_VALUE))


def _ends(numbers: list[float]) -> tuple[float, float]:
    return min(numbers), max(numbers)


RANGES = st.one_of(
    st.just(ANY_VALUE),
    st.lists(NUMBERS.map(float), min_size=2, max_size=2, unique=True).map(_ends),
)
DECIMALS = st.one_of(st.none(), st.integers(0, MOST_DECIMALS))


@st.composite
def channel(draw: st.DrawFn, name: str) -> Channel:
    if draw(st.booleans()):
        # The numbers 0 and -0.0 are one.
        normal = repr(draw(NUMBERS.filter(bool)))
        unit = draw(st.text(max_size=8).filter(str.isprintable))
        return Channel(name, unit, normal, (), (), draw(RANGES), draw(DECIMALS), draw(DECIMALS))
    texts = tuple(draw(st.lists(NAMES, min_size=2, max_size=5, unique=True)))
    scores = tuple(draw(st.lists(NUMBERS.map(float), min_size=len(texts), max_size=len(texts))))
    return Channel(name, "", draw(st.sampled_from(texts)), texts, scores, draw(RANGES))


@st.composite
def channel_set(draw: st.DrawFn) -> ChannelSet:
    names = draw(st.lists(NAMES.filter(lambda name: name != TIME), min_size=1, max_size=5, unique=True))
    return ChannelSet(draw(NAMES), tuple(draw(channel(name)) for name in names))


@given(channels=channel_set())
def test_any_set_is_read_back_as_it_was_written(channels: ChannelSet) -> None:
    assert parse_channels(channels_text(channels), "channels.yaml") == channels


# --- Faults -------------------------------------------------------------------------------------------

CATEGORIES = "normal: a\n    categories: {a: 1, b: 2}"
FAULTS = [
    # The set.
    ("", "", "expected lines of 'key: value'"),
    ("- a\n", "", "expected lines of 'key: value'"),
    ("name: a\n", "", "'channels': Field required"),
    ("name: yes\nchannels: [{name: A, normal: 1}]\n", ", line 1", "'name': write the text in quotes"),
    ("channels: [{name: A, normal: 1}]\nname: 3\n", ", line 2", "'name': Input should be a valid string"),
    ('channels: [{name: A, normal: 1}]\nname: "a\\eb"\n', ", line 2", "'name': write it in one line"),
    ("channels: [{name: A, normal: 1}]\ncolour: 3\n", ", line 2", "'colour': Extra inputs"),
    ("channels: [{name: A, normal: 1}]\nchannels: []\n", ", line 2", "key 'channels' is given twice"),
    ("\nchannels: []\n", ", line 2", "'channels': List should have at least 1 item"),
    ("\nchannels:\n", ", line 2", "'channels': Input should be a valid list"),
    ("\nchannels: {A: 1}\n", ", line 2", "'channels': Input should be a valid list"),
    ("channels:\n  - {name: A, normal: 1}\n  - B\n", ", line 3", "'channels': Input should be a valid dict"),
    ("name: &a b\nchannels: *a\n", "", "an alias (*name) is not read"),
    ("name: b\nchannels: [\n", "", "not YAML"),
]
CHANNEL_FAULTS = [
    # A channel, after its "name: A"; the line counts from there.
    ("", 0, "'normal': Field required"),
    ("normal: 1\n    colour: red", 2, "'colour': Extra inputs"),
    ("normal: 1\n    normal: 2", 2, "key 'normal' is given twice"),
    ("normal: high", 0, "'normal' is a number, or one of 'categories'"),
    ("normal: '1'", 0, "'normal' is a number, or one of 'categories'"),
    ("normal: 2020-01-01", 0, "'normal' is a number, or one of 'categories'"),
    ("normal: 1.1e+18", 0, "'normal' is a number, or one of 'categories'"),
    ("normal: 1100000000000000000", 0, "'normal' is a number, or one of 'categories'"),
    ("normal:", 1, "'normal': "),
    ("normal: [1]", 1, "'normal': "),
    ("normal: .nan", 1, "'normal': Input should be a finite number"),
    ("normal: -.inf", 1, "'normal': Input should be a finite number"),
    ("normal: on", 1, "'normal': write the text in quotes"),
    ("normal: 1\n    unit: 3", 2, "'unit': Input should be a valid string"),
    ('normal: 1\n    unit: "a\\nb"', 2, "'unit': write it in one line"),
    ("normal: 1\n    plausible: [3, 1]", 0, "'plausible' is a lowest and a higher value"),
    ("normal: 1\n    plausible: [1, 1]", 0, "'plausible' is a lowest and a higher value"),
    ("normal: 1\n    plausible: 5", 2, "'plausible': Input should be a valid tuple"),
    ("normal: 1\n    plausible: [1]", 2, "'plausible': Field required"),
    ("normal: 1\n    plausible: [1, 2, 3]", 2, "'plausible': Tuple should have at most 2 items"),
    ("normal: 1\n    plausible: [a, b]", 2, "'plausible': Input should be a valid number"),
    ("normal: 1\n    plausible: [0, .inf]", 2, "'plausible': Input should be a finite number"),
    ("normal: 1\n    plausible: [0, 1.1e+18]", 2, "'plausible': Input should be less than"),
    ("normal: 1\n    plausible: [off, 300]", 2, "'plausible': write the text in quotes"),
    ("normal: 1\n    decimals: -1", 2, "'decimals': Input should be greater than or equal to 0"),
    ("normal: 1\n    decimals: 18", 2, "'decimals': Input should be less than or equal to 17"),
    ("normal: 1\n    decimals: 1.5", 2, "'decimals': Input should be a valid integer"),
    ("normal: 1\n    decimals: some", 2, "'decimals': Input should be a valid integer"),
    ("normal: 1\n    decimals: no", 2, "'decimals': write the text in quotes"),
    ("normal: 1\n    decimals:\n      shift: 1\n      sums: 2", 4, "'sums': Extra inputs"),
    ("normal: 1\n    decimals:\n      shift: 1\n      sum: 18", 4, "'sum': Input should be less than"),
    ("normal: a\n    categories: {a: 1}", 0, "give two categories or more"),
    ("normal: c\n    categories: {a: 1, b: 2}", 0, "one of them as 'normal'"),
    ("normal: 1\n    categories: {'1': 1, '2': 2}", 0, "one of them as 'normal', in quotes if need be"),
    ("normal: '1'\n    categories: {1: 1, 2: 2}", 2, "'categories': Input should be a valid string"),
    ("normal: a\n    categories: [a, b]", 2, "'categories': Input should be a valid dictionary"),
    ("normal: a\n    categories: {a: 1, a: 2}", 2, "key 'a' is given twice"),
    ("normal: a\n    categories:\n      a: 1\n      b: two", 4, "'b': Input should be a valid number"),
    ("normal: a\n    categories:\n      a: 1\n      b: .nan", 4, "'b': Input should be a finite number"),
    ("normal: a\n    categories: {a: yes, b: no}", 2, "'categories': write the text in quotes"),
    ("normal: a\n    categories: {a: 1, 'b,c': 2}", 2, "'categories': a name is a line of text without"),
    ("normal: a\n    categories: {a: 1, '': 2}", 2, "'categories': a name is a line of text without"),
    (f"{CATEGORIES}\n    unit: mm", 0, "categories have no unit and no decimals"),
    (f"{CATEGORIES}\n    decimals: 1", 0, "categories have no unit and no decimals"),
]


@pytest.mark.parametrize(("text", "place", "fault"), FAULTS)
def test_a_fault_of_the_set_is_named_with_its_line(text: str, place: str, fault: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(f'own.yaml{place}: ')}.*{re.escape(fault)}"):
        parse_channels(text, "own.yaml")


@pytest.mark.parametrize(("rest", "line", "fault"), CHANNEL_FAULTS)
def test_a_fault_of_a_channel_is_named_with_its_line(rest: str, line: int, fault: str) -> None:
    text = f"channels:\n  - name: Z\n    normal: 0\n  - name: A\n    {rest}\n  - name: Y\n    normal: 0\n"
    with pytest.raises(UsageError, match=f"^own.yaml, line {4 + line}: .*{re.escape(fault)}"):
        parse_channels(text, "own.yaml")


@pytest.mark.parametrize(
    "name", ["'A,B'", "A->B", "' A'", "'A '", "''", '"A\\nB"', '"A\\eB"', '"A\\u00a0"', "5", "yes", "[A]"]
)
def test_a_name_that_a_series_cannot_head_a_column_with_is_named_with_its_line(name: str) -> None:
    text = f"channels:\n  - name: Z\n    normal: 0\n  - normal: 1\n    name: {name}\n"
    with pytest.raises(UsageError, match=r"^own.yaml, line 5: 'name': "):
        parse_channels(text, "own.yaml")


@pytest.mark.parametrize("name", ["A", TIME])
def test_two_columns_of_one_name_are_refused(name: str) -> None:
    text = f"channels:\n  - name: A\n    normal: 0\n  - name: {name}\n    normal: 1\n"
    with pytest.raises(UsageError, match=rf"^own.yaml, line \d: .*'{name}' is "):
        parse_channels(text, "own.yaml")


# --- In a directory -----------------------------------------------------------------------------------


def test_a_directory_without_the_file_holds_the_benchmarks_channels(tmp_path: Path) -> None:
    assert read_channels(tmp_path) is MIMIC3


def test_a_directorys_own_channels_are_read(tmp_path: Path) -> None:
    (tmp_path / CHANNELS_FILE).write_text(EXAMPLE)
    assert read_channels(tmp_path) == MONITOR


def test_a_fault_in_a_directory_is_the_datas(tmp_path: Path) -> None:
    (tmp_path / CHANNELS_FILE).write_text("channels: []\n")
    message = re.escape(f"{tmp_path / CHANNELS_FILE}, line 1: 'channels': List should have")
    with pytest.raises(DataError, match=f"^{message}"):
        read_channels(tmp_path)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_out_of_the_directory_is_not_followed(tmp_path: Path, there: bool) -> None:
    (tmp_path / "data").mkdir()
    if there:
        (tmp_path / "elsewhere").write_text(EXAMPLE)
    (tmp_path / "data" / CHANNELS_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"channels.yaml: is a link"):
        read_channels(tmp_path / "data")


def test_a_file_that_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / CHANNELS_FILE
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"channels.yaml: cannot be read"):
        read_channels(tmp_path)
    file.unlink()
    file.mkdir()
    with pytest.raises(DataError, match=r"channels.yaml: cannot be read"):
        read_channels(tmp_path)
    file.rmdir()
    os.mkfifo(file)
    with pytest.raises(DataError, match="no regular file"):
        read_channels(tmp_path)
