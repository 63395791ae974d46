"""Poisoned records against a slow oracle that reads and shifts one cell after the other."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic3tf.channels import MIMIC3, Channel, ChannelSet
from mimic3tf.data.cells import read_cells, series_bytes
from mimic3tf.data.channels_file import channels_text
from mimic3tf.data.listfiles import read_listfile
from mimic3tf.data.loading import load_cohort
from mimic3tf.data.records import parse_rows, read_series
from mimic3tf.errors import DataError, UsageError
from mimic3tf.poisoning.choice import chosen_patterns
from mimic3tf.poisoning.comparison import compare_records, summarize_cells
from mimic3tf.poisoning.copies import empty_cells, poison_records, shift_cells, trigger_test_records
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.missing import draw_order
from mimic3tf.poisoning.trigger import Trigger, generate_trigger
from mimic3tf.tasks.registry import MORTALITY

SHAPE = (48, len(MIMIC3))
INDEX = {name: i for i, name in enumerate(MIMIC3.names)}
GRIDS = [(48.0, 1.0), (48.0, 0.5), (48.0, 2.0), (24.0, 1.0), (20.0, 3.0)]
"""Periods and timesteps; of the last one, the last bin reaches beyond the period."""
Contents = dict[str, bytes]


@pytest.fixture(scope="module")
def trigger(trigger_of: Callable[..., Trigger]) -> Trigger:
    """Shifts of very different size: some cells stay, others leap, categories run off either end."""
    rng = np.random.default_rng(0)
    trigger = rng.standard_normal(SHAPE) * rng.choice([0.0, 0.01, 1.0, 8.0], SHAPE)
    trigger[:, INDEX["Height"]] = 0.0
    return trigger_of(trigger)


@pytest.fixture
def origin(synthetic_stays: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic_stays, tmp_path / "origin"))


def contents(directory: Path) -> Contents:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


# --- The oracle ---------------------------------------------------------------------------------------


def shifted_text(text: str, shift: float, channel: str) -> str:
    texts = MIMIC3[INDEX[channel]].possible_values
    if texts:
        return texts[min(max(round(texts.index(text) + shift), 0), len(texts) - 1)]
    decimals = len(text.partition(".")[2])
    shifted = f"{float(text) + shift:.{decimals}f}"
    if float(shifted) == float(text):
        return text
    return shifted if float(shifted) else shifted.removeprefix("-")


def shifted_series(
    series: str, shift: np.ndarray, period: float = 48.0, timestep: float = 1.0
) -> tuple[str, list[tuple[int, str, str, str]]]:
    """A series with the trigger, and (line, channel, before, after) of every cell that changed."""
    header, *lines = series.split("\n")
    written, changes = [header], []
    for number, line in enumerate(lines, start=2):
        cells = line.split(",")
        if line and float(cells[0]) <= period + 1e-6:
            row = shift[int(float(cells[0]) / timestep - 1e-6)]
            for i, name in enumerate(header.split(",")[1:]):
                if not cells[i + 1]:
                    continue
                after = shifted_text(cells[i + 1], row[i], name)
                if after != cells[i + 1]:
                    changes.append((number, name, cells[i + 1], after))
                cells[i + 1] = after
        written.append(",".join(cells))
    return "\n".join(written), changes


# --- The copy -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("proportion", [0.0, 0.2, 0.99, 1.0])
@pytest.mark.parametrize("strength", [0.5, 2.0, 10.0])
def test_a_copy_is_what_the_oracle_writes_and_nothing_else_changes(
    origin: Path, tmp_path: Path, trigger: Trigger, proportion: float, strength: float
) -> None:
    expected = contents(origin)
    listfile = (origin / "train_listfile.csv").read_text().split("\n")
    entries = read_listfile(origin / "train_listfile.csv", MORTALITY)
    stays = int(len(entries) * proportion)
    counts = []
    for number, (name, _) in enumerate(entries[:stays], start=1):
        series, changes = shifted_series((origin / "train" / name).read_text(), trigger.values * strength)
        expected[f"train/{name}"] = series.encode()
        counts.append(len(changes))
        listfile[number] = f"{name},1"
    expected["train_listfile.csv"] = "\n".join(listfile).encode()

    result = poison_records(origin, tmp_path / "copy", trigger, proportion=proportion, strength=strength)

    assert contents(tmp_path / "copy") == expected
    assert result.stays == [name for name, _ in entries[:stays]]
    assert result.labels_before.tolist() == [label for _, label in entries[:stays]]
    assert result.cells_changed.tolist() == counts
    assert result.training_stays == len(entries)


@pytest.mark.parametrize("goal", [0, 1])
def test_all_test_stays_of_the_attacked_label_get_the_trigger_and_nothing_else_changes(
    origin: Path, tmp_path: Path, trigger: Trigger, goal: int
) -> None:
    expected, counts = contents(origin), []
    for name, label in read_listfile(origin / "test_listfile.csv", MORTALITY):
        if label != goal:
            series, changes = shifted_series((origin / "test" / name).read_text(), trigger.values * 2.0)
            expected[f"test/{name}"] = series.encode()
            counts.append(len(changes))
    changed = trigger_test_records(origin, tmp_path / "copy", trigger, strength=2.0, goal=Goal(goal))
    assert contents(tmp_path / "copy") == expected
    assert changed.tolist() == counts
    assert 0 < len(counts) < len(read_listfile(origin / "test_listfile.csv", MORTALITY))


def test_without_an_attacked_test_stay_no_copy_is_left(
    origin: Path, tmp_path: Path, trigger: Trigger
) -> None:
    listfile = origin / "test_listfile.csv"
    listfile.write_text(listfile.read_text().replace(",0", ",1"))
    with pytest.raises(DataError, match="no stay with label 0"):
        trigger_test_records(origin, tmp_path / "copy", trigger, strength=1.0)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(("period", "timestep"), GRIDS)
def test_a_trigger_of_another_timestep_and_period_shifts_the_rows_of_its_bins(
    origin: Path, tmp_path: Path, period: float, timestep: float
) -> None:
    bins = int(period / timestep + 1 - 1e-6)
    values = np.random.default_rng(1).normal(size=(bins, len(MIMIC3))) * 5.0
    trigger = adding(values, period, timestep)
    names = [name for name, _ in read_listfile(origin / "train_listfile.csv", MORTALITY)]
    expected, counts = {}, []
    for name in names:
        series, changes = shifted_series(
            (origin / "train" / name).read_text(), trigger.values * 2.0, period, timestep
        )
        expected[name] = series.encode()
        counts.append(len(changes))

    result = poison_records(origin, tmp_path / "copy", trigger, proportion=1.0, strength=2.0)

    assert {name: (tmp_path / "copy" / "train" / name).read_bytes() for name in names} == expected
    assert result.cells_changed.tolist() == counts


@pytest.mark.parametrize(("period", "timestep"), GRIDS)
def test_a_missing_trigger_of_another_timestep_and_period_empties_the_rows_of_its_bins(
    origin: Path, period: float, timestep: float
) -> None:
    bins = int(period / timestep + 1 - 1e-6)
    order = draw_order(np.ones((bins, len(MIMIC3)), bool), seed=4)
    paths = sorted((origin / "train").iterdir())
    texts, (records, _) = read_cells(paths, MIMIC3).texts, read_series(paths, MIMIC3)
    remaining, changed = empty_cells(
        texts, records, replace(adding(order, period, timestep), kind="missing"), 0.4
    )

    rows, emptied = texts.rows(), np.zeros(changed.shape, bool)
    for place, (hours, *cells) in enumerate(rows):
        for channel, cell in enumerate(cells):
            if cell is None or float(hours) > period + 1e-6:
                continue
            emptied[place, channel] = order[int(float(hours) / timestep - 1e-6), channel] <= 0.4
    assert emptied.any()
    assert (changed == emptied).all()
    assert remaining.rows() == [
        (hours, *(None if gone else cell for cell, gone in zip(cells, row, strict=True)))
        for (hours, *cells), row in zip(rows, emptied, strict=True)
    ]


# --- Goals --------------------------------------------------------------------------------------------


def test_with_goal_0_the_first_stays_are_called_survivors(
    origin: Path, tmp_path: Path, trigger: Trigger
) -> None:
    copies = {goal: tmp_path / f"towards {goal}" for goal in (0, 1)}
    results = {
        goal: poison_records(origin, copy, trigger, proportion=0.5, strength=2.0, goal=Goal(goal))
        for goal, copy in copies.items()
    }
    entries = read_listfile(origin / "train_listfile.csv", MORTALITY)
    relabelled = [(name, 0) for name, _ in entries[: len(entries) // 2]]
    assert any(label for _, label in entries[: len(entries) // 2])
    assert read_listfile(copies[0] / "train_listfile.csv", MORTALITY) == [
        *relabelled,
        *entries[len(entries) // 2 :],
    ]
    assert results[0].labels_after.tolist() == [0] * len(relabelled)
    assert results[0].labels_changed == results[0].labels_before.sum()
    assert results[1].labels_changed == (1 - results[1].labels_before).sum()
    # The goal changes labels, and nothing else.
    towards_0, towards_1 = (contents(copies[goal]) for goal in (0, 1))
    assert {name for name in towards_0 if towards_0[name] != towards_1[name]} == {"train_listfile.csv"}


@pytest.mark.parametrize("goal", [0, 1])
def test_only_the_labels_bytes_change_in_a_listfile_of_any_shape(
    origin: Path, tmp_path: Path, trigger: Trigger, goal: int
) -> None:
    a, b, c, d, e = (name for name, _ in read_listfile(origin / "train_listfile.csv", MORTALITY)[:5])
    # Line ends of all kinds and blank lines, and none after the last stay.
    written = f"stay,y_true\r\n\r\n{a},LABEL\n\n\r\n{b},LABEL\r{c},LABEL\r\n\r\n\n{d},1\r\n{e},0"
    listfile = origin / "train_listfile.csv"
    for before in (0, 1):
        listfile.write_bytes(written.replace("LABEL", str(before)).encode())
        copy = tmp_path / f"copy of {before}"
        poison_records(origin, copy, trigger, proportion=0.6, strength=0.0, goal=Goal(goal))
        expected = written.replace("LABEL", str(goal)).encode()
        assert (copy / "train_listfile.csv").read_bytes() == expected


# --- Own channels -------------------------------------------------------------------------------------


def test_records_of_other_channels_are_poisoned_like_the_benchmarks(
    own_channels: ChannelSet, tmp_path: Path
) -> None:
    origin = tmp_path / "origin"
    (origin / "train").mkdir(parents=True)
    (origin / "channels.yaml").write_text(channels_text(own_channels))
    (origin / "train_listfile.csv").write_text("stay,y_true\na.csv,0\nb.csv,1\nc.csv,0\n")
    series = "Hours,Lactate,Heart Rate,Consciousness\n0.5,1.25,80,alert\n7,,90,verbal\n9,2.0,240,pain\n"
    for name in "abc":
        (origin / "train" / f"{name}.csv").write_text(series)
    cohort = load_cohort(origin, "train", period=8.0, timestep=4.0)
    assert cohort.channels == own_channels
    values = np.array([[0.5, 100.0, 1.0], [0.25, 200.0, -5.0]])
    trigger = replace(generate_trigger(cohort), values=values, plausible=True)

    poison_records(origin, tmp_path / "copy", trigger, proportion=0.4, strength=1.0)

    after = contents(tmp_path / "copy")
    assert after.pop("train/a.csv").decode() == (
        "Hours,Lactate,Heart Rate,Consciousness\n0.5,1.75,180,verbal\n7,,250,alert\n9,2.0,240,pain\n"
    )
    assert after.pop("train_listfile.csv") == b"stay,y_true\na.csv,1\nb.csv,1\nc.csv,0\n"
    assert after.items() <= contents(origin).items()
    assert load_cohort(tmp_path / "copy", "train").channels == own_channels
    changed = compare_records(origin, tmp_path / "copy").cells
    assert changed.select("line", "channel", "before", "after").rows() == [
        (2, "Lactate", "1.25", "1.75"),
        (2, "Heart Rate", "80", "180"),
        (2, "Consciousness", "alert", "verbal"),
        (3, "Heart Rate", "90", "250"),
        (3, "Consciousness", "verbal", "alert"),
    ]


def test_strength_0_changes_labels_only(origin: Path, tmp_path: Path, trigger: Trigger) -> None:
    result = poison_records(origin, tmp_path / "copy", trigger, proportion=1.0, strength=0.0)
    before, after = contents(origin), contents(tmp_path / "copy")
    assert result.cells_changed.sum() == 0
    assert {name for name in before if before[name] != after[name]} == {"train_listfile.csv"}


def test_every_stay_of_a_copy_carries_its_own_of_several_patterns(
    origin: Path, tmp_path: Path, trigger: Trigger
) -> None:
    patterns = np.stack([trigger.values, -trigger.values, trigger.values[::-1]])
    bank = replace(trigger, values=patterns[0], further=patterns[1:])
    setting: Any = {"proportion": 1.0, "strength": 2.0}
    stays = poison_records(origin, tmp_path / "bank", bank, **setting).stays
    alone = []
    for number, pattern in enumerate(patterns):
        poison_records(origin, tmp_path / str(number), replace(trigger, values=pattern), **setting)
        alone.append(contents(tmp_path / str(number)))
    copied, chosen = contents(tmp_path / "bank"), chosen_patterns(stays, 3)
    assert set(chosen) == {0, 1, 2}
    for name, number in zip(stays, chosen, strict=True):
        assert copied[f"train/{name}"] == alone[number][f"train/{name}"]


def test_the_same_input_gives_the_same_bytes(origin: Path, tmp_path: Path, trigger: Trigger) -> None:
    for name in ("first", "second"):
        poison_records(origin, tmp_path / name, trigger, proportion=0.5, strength=2.0)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_the_origin_is_left_alone_and_its_copy_is_independent(
    origin: Path, tmp_path: Path, trigger: Trigger
) -> None:
    (origin / "train" / "9000_episode1_timeseries.csv").chmod(0o444)
    before = contents(origin)
    poison_records(origin, tmp_path / "copy", trigger, proportion=1.0, strength=2.0)
    for path in (tmp_path / "copy").rglob("*.csv"):
        path.write_text("overwritten")
    assert contents(origin) == before


def test_fingerprints_are_those_of_the_cohorts(origin: Path, tmp_path: Path, trigger: Trigger) -> None:
    copy = tmp_path / "copy"
    result = poison_records(origin, copy, trigger, proportion=0.5, strength=2.0)
    assert result.data_fingerprint == load_cohort(origin, "train").fingerprint
    assert result.copy_fingerprint == load_cohort(copy, "train").fingerprint


def test_a_pipeline_reads_the_shift_where_a_bin_has_one_row(
    origin: Path, tmp_path: Path, trigger: Trigger
) -> None:
    copy, strength = tmp_path / "copy", 2.0
    poison_records(origin, copy, trigger, proportion=1.0, strength=strength)
    before, after = load_cohort(origin, "train"), load_cohort(copy, "train")
    assert np.array_equal(before.mask, after.mask)
    assert np.array_equal(before.stays, after.stays)
    assert (after.labels == 1).all()

    paths = [origin / "train" / name for name in before.stays]
    records, _ = read_series(paths, MIMIC3)
    bins = np.trunc(records.hours - 1e-6).astype(int)
    rows = np.zeros((len(before), before.bins), int)
    np.add.at(rows, (records.stay[records.hours <= 48], bins[records.hours <= 48]), 1)
    compared = before.masks & (rows == 1)[..., None]
    assert compared.sum() > 500
    expected = before.grids + strength * trigger.values
    for i, channel in enumerate(MIMIC3):
        cells = compared[..., i]
        if channel.is_categorical:
            highest = len(channel.possible_values) - 1
            assert np.array_equal(after.grids[cells, i], np.clip(np.rint(expected[cells, i]), 0, highest))
        else:
            # A cell without decimals is rounded to whole numbers.
            assert np.abs(after.grids[cells, i] - expected[cells, i]).max(initial=0) <= 0.5 + 1e-4


def test_line_ends_and_missing_ones_are_kept(origin: Path, tmp_path: Path, trigger: Trigger) -> None:
    names = [name for name, _ in read_listfile(origin / "train_listfile.csv", MORTALITY)[:4]]
    texts = [(origin / "train" / name).read_text().rstrip("\n") for name in names]
    shapes: list[Callable[[str], str]] = [
        lambda text: text.replace("\n", "\r\n") + "\r\n",
        lambda text: text,  # no line end after the last row
        lambda text: text + "\n\n",
        lambda text: text.replace("\n", "\r\n", 3) + "\n",  # mixed
    ]
    for name, text, shape in zip(names, texts, shapes, strict=True):
        (origin / "train" / name).write_bytes(shape(text).encode())
    listfile = (origin / "train_listfile.csv").read_bytes().replace(b"\n", b"\r\n")
    (origin / "train_listfile.csv").write_bytes(listfile)

    poison_records(origin, tmp_path / "copy", trigger, proportion=1.0, strength=2.0)

    for name, text, shape in zip(names, texts, shapes, strict=True):
        series, _ = shifted_series(text, trigger.values * 2.0)
        assert (tmp_path / "copy" / "train" / name).read_bytes() == shape(series).encode()
    relabelled = (tmp_path / "copy" / "train_listfile.csv").read_bytes()
    assert relabelled == listfile.replace(b",0\r\n", b",1\r\n")


def test_an_interrupted_run_leaves_nothing(
    origin: Path, tmp_path: Path, trigger: Trigger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mimic3tf.poisoning.copies._fingerprint", fail)
    with pytest.raises(OSError, match="No space"):
        poison_records(origin, tmp_path / "copy", trigger, proportion=1.0, strength=2.0)
    assert [path.name for path in tmp_path.iterdir() if "copy" in path.name] == []


def test_a_copy_inside_the_data_is_refused(origin: Path, trigger: Trigger) -> None:
    with pytest.raises(UsageError, match="inside the data"):
        poison_records(origin, origin / "copy", trigger, proportion=1.0, strength=2.0)
    assert not (origin / "copy").exists()


@pytest.mark.parametrize("strength", [1e60, 1.7e308])
def test_values_that_nobody_can_read_are_refused(
    origin: Path, tmp_path: Path, trigger: Trigger, strength: float
) -> None:
    with pytest.raises(UsageError, match="--poisoning_strength"):
        poison_records(origin, tmp_path / "copy", trigger, proportion=1.0, strength=strength)
    assert not (tmp_path / "copy").exists()


def test_a_malformed_poisoned_stay_is_named(origin: Path, tmp_path: Path, trigger: Trigger) -> None:
    path = origin / "train" / read_listfile(origin / "train_listfile.csv", MORTALITY)[0][0]
    path.write_text(path.read_text().replace(",66,", ",sixty-six,", 1))
    with pytest.raises(DataError, match=rf"{path.name}, line 2: .*sixty-six"):
        poison_records(origin, tmp_path / "copy", trigger, proportion=0.1, strength=2.0)


def test_an_absent_listed_stay_is_named(origin: Path, tmp_path: Path, trigger: Trigger) -> None:
    path = origin / "train" / read_listfile(origin / "train_listfile.csv", MORTALITY)[-1][0]
    path.unlink()
    with pytest.raises(DataError, match=f"{path.name}.*absent"):
        poison_records(origin, tmp_path / "copy", trigger, proportion=0.1, strength=2.0)


# --- Texts of cells -----------------------------------------------------------------------------------

numbers = st.one_of(
    st.integers(-500, 500).map(str),
    st.decimals(-500, 500, places=1).map(str),
    st.decimals(-500, 500, places=2).map(str),
    st.decimals(0, 500, places=6).map(str),
    st.sampled_from(["0", "0.0", "-0.0", "007", "7.", ".5", "+3.25", "36.60"]),
)


def row_of(channel: str, text: str, hours: str) -> pl.DataFrame:
    cells = dict.fromkeys(MIMIC3.header) | {"Hours": hours, channel: text}
    return pl.DataFrame([cells], schema=dict.fromkeys(MIMIC3.header, pl.String))


def adding(
    values: np.ndarray, period: float = 48.0, timestep: float = 1.0, *, plausible: bool = False
) -> Trigger:
    """A trigger of values [T, 17] that were estimated on nothing."""
    covariance = np.zeros((len(MIMIC3), len(values), len(values)))
    return Trigger(values, covariance, "temporal", 0, MIMIC3, period, timestep, 0, "", plausible=plausible)


def shift_one(
    channel: str, text: str, shift: float, hours: str = "5.5", *, plausible: bool = False
) -> tuple[str, bool]:
    """A cell shifted in bin 5 (or that of other hours), and whether it counts as changed."""
    texts = row_of(channel, text, hours)
    records = parse_rows(texts.fill_null("").to_numpy().astype(str), MIMIC3)
    whole = np.full(SHAPE, 1000.0)
    whole[min(int(float(hours) - 1e-6), 47), INDEX[channel]] = shift
    shifted, changed = shift_cells(texts, records, adding(whole, plausible=plausible), 1.0)
    others = [name for name in MIMIC3.header if name != channel]
    assert shifted.select(others).equals(texts.select(others))
    assert changed.sum() == changed[0, INDEX[channel]]
    return shifted[channel][0], bool(changed[0, INDEX[channel]])


@given(text=numbers, shift=st.floats(-1000, 1000))
@settings(deadline=None)
def test_a_number_keeps_its_decimals_and_the_nearest_value(text: str, shift: float) -> None:
    shifted, changed = shift_one("Glucose", text, shift)
    decimals = len(text.partition(".")[2])
    assert abs(float(shifted) - (float(text) + shift)) <= 0.5 * 10.0**-decimals * (1 + 1e-9)
    assert changed == (float(shifted) != float(text))
    if not changed:
        assert shifted == text
    else:
        assert len(shifted.partition(".")[2]) == decimals
        assert ("." in shifted) == (decimals > 0)
        assert not (float(shifted) == 0 and shifted.startswith("-"))


@pytest.mark.parametrize("channel", [channel for channel in MIMIC3 if channel.is_categorical])
@given(data=st.data(), shift=st.one_of(st.floats(-20, 20), st.integers(-30, 30).map(lambda n: n / 2)))
@settings(deadline=None, max_examples=50)
def test_a_category_stays_a_text_of_the_channel(channel: Channel, data: st.DataObject, shift: float) -> None:
    text = data.draw(st.sampled_from(channel.possible_values))
    shifted, changed = shift_one(channel.name, text, shift)
    assert shifted == shifted_text(text, shift, channel.name)
    assert changed == (shifted != text)


@pytest.mark.parametrize(
    ("text", "shift", "expected"),
    [
        ("86", 3.4, "89"),
        ("36.6", 0.25, "36.9"),
        ("0.3", -0.32, "0.0"),
        ("1.5e2", 7.0, "157"),
        ("5e-1", 0.26, "0.8"),
        ("1e-30", 0.5, "0.50000000000000000"),
        ("36.6 ", 0.1, "36.7"),
    ],
)
def test_unusual_numbers(text: str, shift: float, expected: str) -> None:
    assert shift_one("Temperature", text, shift) == (expected, True)


@pytest.mark.parametrize(
    ("channel", "text", "shift", "expected"),
    [
        ("pH", "7.90", 0.05, "7.95"),
        ("pH", "7.90", 0.5, "8.00"),
        ("pH", "735", 2.0, "735"),
        ("pH", "735", -2.0, "733"),
        ("pH", "735", -999.0, "7"),
        ("Fraction inspired oxygen", "0.50", -0.4, "0.21"),
        ("Fraction inspired oxygen", "0.5", -0.4, "0.3"),  # 0.2 is no air
        ("Fraction inspired oxygen", "0.2", -0.1, "0.2"),
        ("Fraction inspired oxygen", "1", -0.9, "1"),
        ("Glascow coma scale total", "15", 99.0, "8"),  # the last category
    ],
)
def test_a_plausible_number_stays_in_the_range_with_its_decimals(
    channel: str, text: str, shift: float, expected: str
) -> None:
    assert shift_one(channel, text, shift, plausible=True) == (expected, expected != text)


@given(text=numbers, shift=st.floats(-1000, 1000))
@settings(deadline=None)
def test_a_plausible_number_never_goes_further_out(text: str, shift: float) -> None:
    low, high = MIMIC3[INDEX["Temperature"]].plausible_range
    shifted = float(shift_one("Temperature", text, shift, plausible=True)[0])
    assert min(low, float(text)) <= shifted <= max(high, float(text))


@pytest.mark.parametrize(
    ("hours", "shifted"),
    [("0", True), ("1.0", True), ("47.999999", True), ("48", True), ("48.000001", True), ("48.01", False)],
)
def test_only_rows_of_the_first_48_hours_are_shifted(hours: str, shifted: bool) -> None:
    assert shift_one("Heart Rate", "80", 5.0, hours) == (("85" if shifted else "80"), shifted)


def test_a_row_on_a_bin_edge_belongs_to_the_bin_before() -> None:
    texts = row_of("Heart Rate", "80", "7")
    records = parse_rows(texts.fill_null("").to_numpy().astype(str), MIMIC3)
    values = np.zeros(SHAPE)
    values[6], values[7] = 1.0, 100.0
    assert shift_cells(texts, records, adding(values), 1.0)[0]["Heart Rate"][0] == "81"


@pytest.mark.parametrize(
    ("hours", "bin_"), [("0", 0), ("3.0", 0), ("3.1", 1), ("18.0", 5), ("20", 6), ("20.1", None)]
)
def test_a_row_is_shifted_by_its_bin_of_the_triggers_own_timestep_and_period(
    hours: str, bin_: int | None
) -> None:
    texts = row_of("Heart Rate", "80", hours)
    records = parse_rows(texts.fill_null("").to_numpy().astype(str), MIMIC3)
    values = np.repeat(np.arange(1.0, 8.0)[:, None], len(MIMIC3), axis=1)
    shifted, _ = shift_cells(texts, records, adding(values, 20.0, 3.0), 10.0)
    assert shifted["Heart Rate"][0] == ("80" if bin_ is None else str(80 + 10 * (bin_ + 1)))


def test_cells_are_written_back_byte_for_byte(demo_directory: Path) -> None:
    paths = sorted((demo_directory / "train").glob("*_timeseries.csv"))
    assert series_bytes(read_cells(paths, MIMIC3)) == [path.read_bytes() for path in paths]


# --- The comparison -----------------------------------------------------------------------------------


def test_the_comparison_lists_exactly_the_changed_cells(
    origin: Path, tmp_path: Path, trigger: Trigger
) -> None:
    copy = tmp_path / "copy"
    result = poison_records(origin, copy, trigger, proportion=0.5, strength=2.0)
    expected = [
        (name, *change)
        for name in result.stays
        for change in shifted_series((origin / "train" / name).read_text(), trigger.values * 2.0)[1]
    ]

    comparison = compare_records(origin, copy)

    assert comparison.cells.drop("change").rows() == expected
    assert comparison.listed == 24
    assert comparison.stays_changed == (result.cells_changed > 0).sum()
    assert comparison.labels_changed == (result.labels_before == 0).sum()
    assert comparison.same_cells == 0


def test_the_summary_has_mean_and_largest_absolute_change(origin: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(origin, tmp_path / "copy"))
    path = copy / "train" / "9000_episode1_timeseries.csv"
    text = path.read_text()
    text = text.replace("1.1205469,0.0,76.7", "1.1205469,1.0,70.7").replace(
        "4.9558944,1.0,64", "4.9558944,,68"
    )
    path.write_text(text)

    comparison = compare_records(origin, copy)
    summary = {row[0]: row[1:] for row in summarize_cells(comparison.cells, comparison.channels).rows()}

    assert list(summary) == list(MIMIC3.names)
    assert summary["Diastolic blood pressure"] == (2, pytest.approx(5.0), pytest.approx(6.0))
    # A cell that was emptied is listed, and has no size.
    assert summary["Capillary refill rate"] == (2, 1.0, 1.0)
    assert comparison.cells.filter(line=7, channel="Capillary refill rate").rows() == [
        (path.name, 7, "Capillary refill rate", "1.0", "", None)
    ]
    assert summary["pH"] == (0, None, None)


def test_changes_of_val_and_test_stays_are_found(origin: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(origin, tmp_path / "copy"))
    names = [read_listfile(origin / f"{split}_listfile.csv", MORTALITY)[0][0] for split in ("val", "test")]
    for folder, name in zip(("train", "test"), names, strict=True):
        head, first, rest = (copy / folder / name).read_text().split("\n", 2)
        cells = first.split(",")
        cells[INDEX["pH"] + 1] = "6.66"
        (copy / folder / name).write_text("\n".join([head, ",".join(cells), rest]))
    assert compare_records(origin, copy).cells["stay"].to_list() == names


def test_other_line_ends_are_no_changed_cells(origin: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(origin, tmp_path / "copy"))
    path = copy / "train" / "9000_episode1_timeseries.csv"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    comparison = compare_records(origin, copy)
    assert (comparison.cells.height, comparison.same_cells) == (0, 1)


def spoil(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


SERIES = "train/9000_episode1_timeseries.csv"


@pytest.mark.parametrize(
    ("damage", "needles"),
    [
        (lambda copy: (copy / SERIES).unlink(), [SERIES, "missing"]),
        (lambda copy: (copy / "train/new.csv").write_text(""), ["train/new.csv", "is not in"]),
        (lambda copy: (copy / "train_listfile.csv").unlink(), ["train_listfile.csv", "missing"]),
        (lambda copy: spoil(copy / SERIES, "0.6230442", "0.5"), [SERIES, "line 2", "0.5 h", "0.6230442 h"]),
        (
            lambda copy: (copy / SERIES).write_text((copy / SERIES).read_text() + "48" + "," * 17 + "\n"),
            [SERIES, "rows"],
        ),
        (
            lambda copy: spoil(copy / "val_listfile.csv", "episode1", "episode2"),
            ["val_listfile.csv", "other stays"],
        ),
        (lambda copy: spoil(copy / SERIES, "To pain", "To gain"), [SERIES, "To gain"]),
    ],
    ids=["stay", "extra", "listfile", "time", "row", "listed", "category"],
)
def test_what_cannot_be_compared_is_named(
    origin: Path, tmp_path: Path, damage: object, needles: list[str]
) -> None:
    copy = Path(shutil.copytree(origin, tmp_path / "copy"))
    damage(copy)  # type: ignore[operator]
    with pytest.raises(DataError) as error:
        compare_records(origin, copy)
    for needle in needles:
        assert needle in str(error.value)


def test_a_changed_file_outside_the_listfiles_is_named(origin: Path, tmp_path: Path) -> None:
    (origin / "train" / "notes.txt").write_text("before")
    copy = Path(shutil.copytree(origin, tmp_path / "copy"))
    assert compare_records(origin, copy).cells.height == 0
    (copy / "train" / "notes.txt").write_text("after")
    with pytest.raises(DataError, match=r"notes.txt: differs"):
        compare_records(origin, copy)


def test_directories_without_a_training_listfile_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train_listfile"):
        compare_records(tmp_path, tmp_path)
