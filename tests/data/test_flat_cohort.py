"""A cohort's stays lie one behind the other, whatever their lengths; nothing is padded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimic3tf.channels import Channel, ChannelSet
from mimic3tf.data.cohort import Cohort, Examples, cohort_of
from mimic3tf.data.grid import FilledGrid
from mimic3tf.errors import DataError, UsageError
from mimic3tf.tasks.registry import MORTALITY

CHANNELS = ChannelSet("two", (Channel("Pulse", "1/min", "80"), Channel("Lactate", "mmol/L", "1.0")))
LENGTHS = (3, 1, 4, 2, 4)
OWNERS = (4, 0, 0, 2, 3, 2, 0)
"""The stays of the ragged cohort's examples; the second stay has none."""


def _ragged(
    lengths: Sequence[int] = LENGTHS, owners: Sequence[int] = OWNERS, *, filled: bool = True
) -> Cohort:
    """A cohort in which every number occurs once."""
    rows = sum(lengths)
    values = np.arange(2.0 * rows, dtype=np.float32).reshape(rows, 2)
    grid = FilledGrid(
        values.astype(np.float64) + 1000.0,
        (values % 5).astype(np.int16),
        np.arange(rows, dtype=np.float64) + 0.25,
    )
    stay = np.array(owners, np.int32)
    return Cohort(
        CHANNELS,
        MORTALITY,
        np.array([f"{number}.csv" for number in range(len(lengths))], str),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        values,
        values % 3 == 0,
        grid if filled else None,
        Examples(
            stay, (np.arange(len(stay)) % 3 + 1).astype(np.int16), (np.arange(len(stay)) % 2).astype(np.int8)
        ),
        4.0,
        1.0,
        "fingerprint",
    )


def _rows(cohort: Cohort, array: np.ndarray) -> dict[str, list[object]]:
    """Rows of every stay by its name."""
    ends = cohort.starts[1:]
    return {
        str(name): array[start:end].tolist()
        for name, start, end in zip(cohort.stays, cohort.starts[:-1], ends, strict=True)
    }


def _examples(cohort: Cohort) -> list[tuple[str, int, int]]:
    """Name of the stay, end and label of every example."""
    examples = cohort.examples
    return [
        (str(cohort.stays[stay]), int(end), int(label))
        for stay, end, label in zip(examples.stay, examples.end, examples.y, strict=True)
    ]


def _check_taken(whole: Cohort, taken: Cohort, chosen: Sequence[int]) -> None:
    """The stays are those chosen, in this order, with their own rows and examples."""
    names = [f"{stay}.csv" for stay in chosen]
    assert taken.stays.tolist() == names
    pairs = [(whole.values, taken.values), (whole.mask, taken.mask)]
    if whole.filled is not None:
        assert taken.filled is not None
        for part in ("values", "source", "times"):
            pairs.append((getattr(whole.filled, part), getattr(taken.filled, part)))
    else:
        assert taken.filled is None
    for before, after in pairs:
        assert after.dtype == before.dtype
        assert len(after) == taken.starts[-1]
        rows = _rows(whole, before)
        assert _rows(taken, after) == {name: rows[name] for name in names}
    examples = _examples(whole)
    assert _examples(taken) == [example for name in names for example in examples if example[0] == name]
    assert [
        part.dtype for part in (taken.starts, taken.examples.stay, taken.examples.end, taken.examples.y)
    ] == [
        np.int64,
        np.int32,
        np.int16,
        np.int8,
    ]


COHORTS = pytest.mark.parametrize(
    "cohort",
    [
        _ragged(),
        _ragged(filled=False),
        _ragged([3] * 5, range(5)),
        _ragged([3] * 5, [4, 2, 0, 1, 3]),
    ],
    ids=["ragged", "ragged grids", "equal", "equal, examples in another order"],
)


@COHORTS
@pytest.mark.parametrize("chosen", [[0, 1, 2, 3, 4], [4, 0, 2], [1], [3, 1], [-1, 0], []], ids=str)
def test_taking_by_index_gives_the_rows_and_examples_of_these_stays_in_this_order(
    cohort: Cohort, chosen: list[int]
) -> None:
    _check_taken(cohort, cohort.take(np.array(chosen, int)), [stay % 5 for stay in chosen])


@COHORTS
@pytest.mark.parametrize("flags", ["11111", "10101", "01000", "00000"])
def test_taking_by_mask_keeps_the_order_of_the_stays(cohort: Cohort, flags: str) -> None:
    mask = np.array(list(flags)) == "1"
    _check_taken(cohort, cohort.take(mask), np.flatnonzero(mask).tolist())


@given(data=st.data())
def test_any_cohort_is_taken_apart_stay_by_stay(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    owners = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=8))
    order = data.draw(st.permutations(range(len(lengths))))
    chosen = order[: data.draw(st.integers(0, len(order)))]
    cohort = _ragged(lengths, owners)
    _check_taken(cohort, cohort.take(np.array(chosen, int)), chosen)


def test_what_is_taken_keeps_what_it_was_made_from() -> None:
    cohort = _ragged()
    taken = cohort.take(np.array([2]))
    for name in ("channels", "task", "period", "timestep", "fingerprint"):
        assert getattr(taken, name) == getattr(cohort, name)


@pytest.mark.parametrize(
    "look",
    [
        lambda cohort: cohort.bins,
        lambda cohort: cohort.grids,
        lambda cohort: cohort.masks,
        lambda cohort: cohort.filled_grids,
    ],
    ids=["bins", "grids", "masks", "filled_grids"],
)
def test_stays_of_different_lengths_have_no_grids_until_those_of_one_length_are_taken(
    look: Callable[[Cohort], object],
) -> None:
    cohort = _ragged()
    with pytest.raises(UsageError, match="have different lengths"):
        look(cohort)
    look(cohort.take(np.array([2, 4])))


def test_grids_are_views_of_the_rows() -> None:
    cohort = _ragged([3] * 5, range(5))
    assert cohort.bins == 3
    assert cohort.grids.shape == cohort.masks.shape == (5, 3, 2)
    assert np.shares_memory(cohort.grids, cohort.values)
    assert np.shares_memory(cohort.masks, cohort.mask)
    filled, rows = cohort.filled_grids, cohort.filled
    assert rows is not None
    assert filled.values.shape == filled.source.shape == (5, 3, 2)
    assert filled.times.shape == (5, 3)
    for stay in range(5):
        name = f"{stay}.csv"
        assert cohort.grids[stay].tolist() == _rows(cohort, cohort.values)[name]
        assert filled.times[stay].tolist() == _rows(cohort, rows.times)[name]


def test_grids_have_no_filled_ones_unless_they_came_with_them() -> None:
    with pytest.raises(DataError, match="this cohort came as grids; features need the records"):
        _ragged([3] * 5, filled=False).filled_grids  # noqa: B018


def test_grids_put_together_come_apart_again() -> None:
    whole = _ragged([3] * 5, range(5))
    cohort = cohort_of(
        whole.stays,
        whole.labels,
        whole.grids,
        whole.masks,
        filled=whole.filled_grids,
        channels=CHANNELS,
        timestep=1.0,
        period=4.0,
        fingerprint="fingerprint",
    )
    np.testing.assert_array_equal(cohort.starts, whole.starts)
    np.testing.assert_array_equal(cohort.labels, whole.labels)
    np.testing.assert_array_equal(cohort.examples.end, [3] * 5)
    np.testing.assert_array_equal(cohort.grids, whole.grids)
    np.testing.assert_array_equal(cohort.masks, whole.masks)
    for part in ("values", "source", "times"):
        np.testing.assert_array_equal(getattr(cohort.filled_grids, part), getattr(whole.filled_grids, part))


def test_a_period_is_that_of_all_bins_unless_it_is_given() -> None:
    whole = _ragged([3] * 5, range(5))
    parts = (whole.stays, whole.labels, whole.grids, whole.masks)
    assert cohort_of(*parts, channels=CHANNELS, timestep=0.5).period == 1.5
    assert cohort_of(*parts, channels=CHANNELS, timestep=0.5, period=1.25).period == 1.25


def test_other_contents_leave_everything_else_as_it_is() -> None:
    cohort = _ragged([3] * 5, range(5))
    other = cohort.with_grids(cohort.grids + 1, mask=~cohort.masks, labels=1 - cohort.labels)
    np.testing.assert_array_equal(other.grids, cohort.grids + 1)
    np.testing.assert_array_equal(other.masks, ~cohort.masks)
    np.testing.assert_array_equal(other.labels, 1 - cohort.labels)
    assert other.values.dtype == np.float32
    assert other.labels.dtype == np.int64
    assert other.filled is cohort.filled
    assert other.examples.stay is cohort.examples.stay
    same = cohort.with_grids(cohort.grids)
    np.testing.assert_array_equal(same.mask, cohort.mask)
    np.testing.assert_array_equal(same.labels, cohort.labels)
    np.testing.assert_array_equal(cohort.values, _ragged([3] * 5, range(5)).values)
