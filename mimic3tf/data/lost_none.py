"""The coma scale's eye opening "None", which pandas 2 and later take for a missing value.

Whoever builds the benchmarks' records with such a pandas loses this category without a word: an eye that does
not open looks like one that nobody looked at.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from mimic3tf.channels import MIMIC3
from mimic3tf.data.cohort import TIMESTEP, Cohort
from mimic3tf.storage.notes import note

CHANNEL, LOST = "Glascow coma scale eye opening", "None"
OTHERS = ("To Pain", "To Speech", "Spontaneously")
"""The texts beside "None" in one charting software, MetaVision; those of the other, CareVue, are numbered."""

ENOUGH_STAYS = 20
"""Stays with such texts. In the MIMIC-III demo 9 of 28 are charted "None" at some time: that 20 never are by
chance happens once in some 2000 times."""


def note_lost_none(data_dir: Path, cohort: Cohort) -> None:
    """Say once for a directory that its records have probably lost the category "None".

    Args:
        data_dir: where the cohort comes from.
        cohort: a split of it. Long bins are not judged: of their values only the last is left.
    """
    if cohort.channels != MIMIC3 or cohort.timestep > TIMESTEP:
        return
    position = MIMIC3.position(CHANNEL)
    rows = np.flatnonzero(cohort.mask[:, position])
    categories = cohort.values[rows, position]
    if (categories == MIMIC3[position].category_index(LOST)).any():
        return
    others = [index for text in OTHERS if (index := MIMIC3[position].category_index(text)) is not None]
    charted = rows[np.isin(categories, others)]
    stays = np.unique(np.searchsorted(cohort.starts, charted, side="right"))
    if len(stays) >= ENOUGH_STAYS:
        _say(data_dir.resolve())


@functools.cache
def _say(data_dir: Path) -> None:
    note(
        f"{data_dir}: '{CHANNEL}' is never '{LOST}', though the texts beside it are there; pandas 2 and "
        f"later read '{LOST}' as missing. Build the records again: with mimic3tf prepare mimic3, or with the "
        "scripts of the benchmarks and read_csv(..., keep_default_na=False, na_values=[''])"
    )
