"""The eye opening "None" of the coma scale, which pandas 2 and later read as a missing value.

If the benchmarks' records are built with such a pandas, this category is lost without a message: an eye that
does not open looks like an eye that nobody examined.
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
"""The other texts of the charting software MetaVision; the other software, CareVue, writes numbered texts."""

ENOUGH_STAYS = 20
"""Number of stays with texts of MetaVision that is enough to judge. In the MIMIC-III demo, 9 of 28 such stays
have "None" at some time. So 20 stays without any "None" occur by chance about once in 2000 times."""


def note_lost_none(data_dir: Path, cohort: Cohort) -> None:
    """Warn once for each directory if its records have probably lost the category "None".

    Args:
        data_dir: directory from which the cohort was read.
        cohort: a split of the directory. Bins of more than 1 h are not judged, because they keep only the
            last of their values.
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
        f"{data_dir}: '{CHANNEL}' is never '{LOST}', though its other texts occur; pandas 2 and "
        f"later read '{LOST}' as missing. Build the records again: with mimic3tf prepare mimic3, or with the "
        "scripts of the benchmarks and read_csv(..., keep_default_na=False, na_values=[''])"
    )
