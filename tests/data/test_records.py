from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mimic3tf.channels import MIMIC3, Channel, ChannelSet
from mimic3tf.data.records import LARGEST_VALUE, parse_rows, read_series
from mimic3tf.errors import DataError

Row = tuple[float, dict[str, float | str]]
"""Hours, and what was measured then: channel name -> number or category text."""
LARGEST = LARGEST_VALUE


def _numbers(low: float = -LARGEST) -> st.SearchStrategy[float]:
    return st.floats(low, LARGEST, allow_nan=False, allow_infinity=False)


def _cell(channel: Channel) -> st.SearchStrategy[float | str]:
    return st.sampled_from(channel.possible_values) if channel.is_categorical else _numbers()


CELLS = st.fixed_dictionaries({}, optional={channel.name: _cell(channel) for channel in MIMIC3})


@st.composite
def series(draw: st.DrawFn) -> list[Row]:
    """Rows of one stay: hours ascend and may repeat, any cell may be empty."""
    hours = sorted(draw(st.lists(_numbers(0.0), min_size=1, max_size=6)))
    return [(hour, draw(CELLS)) for hour in hours]


def _text(stay: Sequence[Row], end: str = "\n") -> str:
    lines = [",".join(MIMIC3.header)]
    lines += [
        ",".join([repr(hour), *(str(cells.get(name, "")) for name in MIMIC3.names)]) for hour, cells in stay
    ]
    return end.join(lines)


def _expected(stay: Sequence[Row]) -> np.ndarray:
    return np.array(
        [
            [
                math.nan
                if (cell := cells.get(channel.name)) is None
                else float(channel.possible_values.index(cell) if isinstance(cell, str) else cell)
                for channel in MIMIC3
            ]
            for _, cells in stay
        ]
    )


def _write(folder: Path, contents: Sequence[str | bytes]) -> list[Path]:
    paths = [folder / f"{number}_episode1_timeseries.csv" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return paths


def _small(hours: Sequence[float], name: str = "Heart Rate", value: float = 80.0) -> list[Row]:
    return [(hour, {name: value + hour}) for hour in hours]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stays=st.lists(series(), min_size=1, max_size=5),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.sampled_from(["", "\n", "\n\n"]),
)
def test_any_table_is_read_back_exactly(tmp_path: Path, stays: list[list[Row]], end: str, last: str) -> None:
    read, _ = read_series(
        _write(tmp_path, [_text(stay, end) + last.replace("\n", end) for stay in stays]), MIMIC3
    )
    np.testing.assert_array_equal(read.values, np.concatenate([_expected(stay) for stay in stays]), MIMIC3)
    np.testing.assert_array_equal(read.hours, [hour for stay in stays for hour, _ in stay])
    np.testing.assert_array_equal(read.stay, np.repeat(np.arange(len(stays)), [len(stay) for stay in stays]))
    assert read.values.dtype == read.hours.dtype == np.float64
    assert read.stay.dtype == np.int64


@settings(max_examples=40, deadline=None)
@given(stay=series())
def test_the_rows_of_a_benchmark_reader_are_parsed_exactly(stay: list[Row]) -> None:
    rows = np.array([line.split(",") for line in _text(stay).split("\n")[1:]])
    read = parse_rows(rows, MIMIC3)
    np.testing.assert_array_equal(read.values, _expected(stay))
    np.testing.assert_array_equal(read.hours, [hour for hour, _ in stay])
    assert not read.stay.any()


@pytest.mark.parametrize("value", [-1.0, 0.0, -0.0, 1.0, 1e-300, 5e-324, -3.5, LARGEST])
def test_any_finite_number_is_a_measurement(tmp_path: Path, value: float) -> None:
    """-1 stands for nothing here: PhysioNet's missing values are left out long before."""
    for channel in (channel for channel in MIMIC3 if not channel.is_categorical):
        read, _ = read_series(_write(tmp_path, [_text([(1.0, {channel.name: value})])]), MIMIC3)
        np.testing.assert_array_equal(read.values, _expected([(1.0, {channel.name: value})]))


@pytest.mark.parametrize("text", ["86", "86.", ".5", "+86", "8.6e1", "8.6E+1", "-0", "007", " 86", "86 "])
def test_a_number_has_the_value_that_float_gives_it(text: str) -> None:
    row = ["0.5", *("" for _ in MIMIC3)]
    row[MIMIC3.header.index("Heart Rate")] = text
    read = parse_rows(np.array([row]), MIMIC3)
    assert read.values[0, MIMIC3.header.index("Heart Rate") - 1] == float(text)


def test_every_category_has_its_index(tmp_path: Path) -> None:
    for position, channel in enumerate(MIMIC3):
        if channel.is_categorical:
            stay: list[Row] = [(0.5, {channel.name: text}) for text in channel.possible_values]
            read, _ = read_series(_write(tmp_path, [_text(stay)]), MIMIC3)
            assert read.values[:, position].tolist() == list(range(len(channel.possible_values)))
            assert np.isnan(np.delete(read.values, position, axis=1)).all()


def test_an_empty_row_keeps_its_hour(tmp_path: Path) -> None:
    read, _ = read_series(_write(tmp_path, [_text([(0.5, {}), (0.5, {}), (7.25, {})])]), MIMIC3)
    assert read.hours.tolist() == [0.5, 0.5, 7.25]
    assert np.isnan(read.values).all()


def test_hours_may_go_down_from_one_stay_to_the_next(tmp_path: Path) -> None:
    read, _ = read_series(
        _write(tmp_path, [_text(_small([5, 6])), _text(_small([0, 1])), _text(_small([3]))]), MIMIC3
    )
    assert read.stay.tolist() == [0, 0, 1, 1, 2]
    assert read.hours.tolist() == [5, 6, 0, 1, 3]


def test_no_stays_give_no_rows() -> None:
    read, digests = read_series([], MIMIC3)
    assert read.stay.shape == read.hours.shape == (0,)
    assert read.values.shape == (0, len(MIMIC3))
    assert digests == []


def test_the_digests_are_those_of_the_bytes(tmp_path: Path) -> None:
    paths = _write(tmp_path, [_text(_small([hour]), "\r\n") for hour in range(5)])
    assert read_series(paths, MIMIC3)[1] == [hashlib.sha256(path.read_bytes()).digest() for path in paths]


def test_other_channels_are_read_by_their_own_header(tmp_path: Path) -> None:
    channels = (Channel("Lactate", "mmol/L", "1.0"), Channel("Side", "", "left", ("left", "right"), (0, 1)))
    (path,) = _write(tmp_path, ["Hours,Lactate,Side\n0.5,2.25,right\n1,,\n"])
    read, _ = read_series([path], ChannelSet("two", channels))
    np.testing.assert_array_equal(read.values, [[2.25, 1.0], [math.nan, math.nan]])


@pytest.mark.parametrize("fault", range(5))
@pytest.mark.parametrize(
    ("bad", "needles"),
    [
        ("1.5,x", ["line 3", "2 cells", "18"]),
        ("1.5" + "," * 18, ["line 3", "19 cells"]),
        ("0.25" + "," * 17, ["line 3", "from 1 to 0.25"]),
        ("-2" + "," * 17, ["line 3", "negative (-2)"]),
        ("" + "," * 17, ["line 3", "'Hours'"]),
        ("1.5,2.0" + "," * 16, ["line 3", "'2.0'", "'Capillary refill rate'"]),
        ("1.5,,low" + "," * 15, ["line 3", "'low'", "'Diastolic blood pressure'"]),
        ("1.5,,inf" + "," * 15, ["line 3", "'Diastolic blood pressure'"]),
    ],
)
def test_a_fault_is_placed_in_its_file(tmp_path: Path, fault: int, bad: str, needles: list[str]) -> None:
    contents = [_text(_small([1, 2])) for _ in range(5)]
    lines = _text(_small([1, 2, 3])).split("\n")
    contents[fault] = "\n".join([*lines[:2], bad, *lines[2:]])
    paths = _write(tmp_path, contents)
    with pytest.raises(DataError) as caught:
        read_series(paths, MIMIC3)
    for needle in [f"{paths[fault]}, ", *needles]:
        assert needle in str(caught.value)


def test_the_first_of_two_faults_is_named(tmp_path: Path) -> None:
    lines = _text(_small([1, 2, 3, 4])).split("\n")
    lines[2] = "0.5" + "," * 17
    lines[3] = "3,9.0" + "," * 16
    with pytest.raises(DataError, match="line 3: column 'Hours' goes back from 1 to 0.5"):
        read_series(_write(tmp_path, ["\n".join(lines)]), MIMIC3)


def test_rows_in_memory_are_called_by_their_name() -> None:
    row = ["0.5", *("" for _ in MIMIC3)]
    row[MIMIC3.header.index("pH")] = "acid"
    with pytest.raises(DataError, match="stay 7, line 2: channel 'pH' holds 'acid'"):
        parse_rows(np.array([row]), MIMIC3, name="stay 7")


SOUND_ROW = b"0.5" + b"," * len(MIMIC3) + b"\n"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), headed=st.booleans())
@example(content=SOUND_ROW, headed=True)
def test_any_bytes_are_read_or_refused_with_the_name_of_the_file(
    tmp_path: Path, content: bytes, headed: bool
) -> None:
    header = (",".join(MIMIC3.header) + "\n").encode() if headed else b""
    (path,) = _write(tmp_path, [header + content])
    refusal = _refusal(path)
    assert refusal is None or str(path) in refusal
    assert refusal is None or content != SOUND_ROW or not headed


def _refusal(path: Path) -> str | None:
    try:
        read_series([path], MIMIC3)
    except DataError as error:
        return str(error)
    return None


def test_rows_may_be_a_rounding_error_before_admission(tmp_path: Path) -> None:
    """The benchmarks keep such rows, half a microhour early, in the first bin."""
    row = "," * 17
    (path,) = _write(tmp_path, [f"{','.join(MIMIC3.header)}\n-0.0000005{row}\n1{row}\n"])
    read, _ = read_series([path], MIMIC3)
    assert read.hours.tolist() == [-5e-7, 1.0]
    (path,) = _write(tmp_path, [f"{','.join(MIMIC3.header)}\n-0.000001{row}\n"])
    with pytest.raises(DataError, match=r"line 2: column 'Hours' is negative \(-1e-06\)"):
        read_series([path], MIMIC3)
