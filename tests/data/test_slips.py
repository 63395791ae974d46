"""Slips are found and left out, and only those that make most of a channel's variance are named."""

from __future__ import annotations

import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.data.slips import dominating_slips, outside_range, without_slips

PH, GLUCOSE, SCALE = (MIMIC3.position(name) for name in ("pH", "Glucose", "Glascow coma scale total"))


@pytest.fixture
def grids() -> np.ndarray:
    random = np.random.default_rng(0)
    grids = np.tile(MIMIC3.normal, (50, 4, 1))
    grids[..., PH] += random.normal(0, 0.05, (50, 4))
    grids[..., GLUCOSE] += random.normal(0, 30, (50, 4))
    return grids.astype(np.float32)


def test_a_ph_of_735_dominates_its_channel_and_is_counted(grids: np.ndarray) -> None:
    masks = np.ones(grids.shape, bool)
    assert dominating_slips(grids, masks, MIMIC3) == []
    grids[[3, 5], 2, PH] = 735, 7350
    masks[5, 2, PH] = False
    (found,) = dominating_slips(grids, masks, MIMIC3)
    assert (found.channel, found.values, found.outside) == ("pH", 199, 1)
    cells = grids[masks[..., PH], PH].astype(float)
    assert found.share_of_variance == pytest.approx(1 - cells[cells < 8].var() * 198 / (cells.var() * 199))
    assert found.in_words == "pH: 1 of 199 values are outside 6.5 to 8 and make 100% of its variance"


def test_a_slip_that_hardly_widens_its_channel_is_not_named(grids: np.ndarray) -> None:
    masks = np.ones(grids.shape, bool)
    grids[3, 2, GLUCOSE] = 5
    assert outside_range(grids, masks, MIMIC3).sum() == 1
    assert dominating_slips(grids, masks, MIMIC3) == []


def test_a_channel_in_another_unit_holds_no_slips(grids: np.ndarray) -> None:
    masks = np.ones(grids.shape, bool)
    grids[:25, :, PH] *= 100
    assert outside_range(grids, masks, MIMIC3).sum() == 100
    assert dominating_slips(grids, masks, MIMIC3) == []


def test_slips_are_imputed_as_if_they_had_not_been_measured(grids: np.ndarray) -> None:
    masks = np.ones(grids.shape, bool)
    masks[3, 3, PH] = False
    grids[3, 2:, PH] = 735
    grids[4, 0, PH] = 735
    grids[5, 1, SCALE] = 12
    cleaned = without_slips(grids, masks, MIMIC3)
    assert (cleaned[3, 2:, PH] == grids[3, 1, PH]).all()
    assert cleaned[4, 0, PH] == 7.4
    changed = cleaned != grids
    assert changed.sum() == 3
