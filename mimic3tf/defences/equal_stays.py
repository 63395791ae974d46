"""Find stays with the same measurements: copies take away what the tests of an audit rest on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mimic3tf.defences.evidence import Evidence
from mimic3tf.errors import UsageError

MOSTLY = 0.5
"""Share of the training stays that must differ for an equal trusted stay to be no coincidence: rows of a few
whole numbers are equal without being copies."""


def cautions_of_equal_stays(evidence: Evidence) -> list[str]:
    """Say how many stays are equal to others, in every measurement; stays without one are not compared.

    Raises:
        UsageError: all trusted stays are training stays, so that they would hide any attack.
    """
    trusted = evidence.trusted
    # Numbers that tell stays apart: equal stays have the same one.
    codes = np.unique(
        np.concatenate([_rows(evidence.grids, evidence.masks), _rows(trusted.grids, trusted.masks)]),
        return_inverse=True,
    )[1]
    of_training = codes[: len(evidence.grids)][evidence.masks.any(axis=(1, 2))]
    of_trusted = codes[len(evidence.grids) :][trusted.masks.any(axis=(1, 2))]
    shared = int(np.isin(of_trusted, of_training).sum())
    repeated = [len(group) - len(np.unique(group)) for group in (of_training, of_trusted)]
    if len(of_trusted) and shared == len(of_trusted) and repeated[0] < MOSTLY * len(of_training):
        raise UsageError(
            f"{evidence.source}: all {shared:,} trusted stays are training stays, too, and stays compared "
            "with themselves hide any attack; give trusted stays that are not among the training stays"
        )
    cautions = []
    if shared:
        cautions.append(
            f"{shared:,} of {len(of_trusted):,} trusted stays are equal to training stays in every "
            "measurement. Training stays that are trusted hide an attack: leave them out of one of the two"
        )
    for name, count, group in zip(("training", "trusted"), repeated, (of_training, of_trusted), strict=True):
        if count:
            cautions.append(
                f"{count:,} of {len(group):,} {name} stays repeat another one in every measurement. The p "
                "values hold for independent stays, and copies raise false alarms: leave the copies out"
            )
    return cautions


def _rows(grids: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.void]:
    """Return the bytes of each stay as one value, the same for the same measured cells."""
    # Adding 0 makes -0 and 0 the same bytes.
    cells = np.where(masks, grids + np.float32(0), np.float32(np.nan)).reshape(len(grids), -1)
    return cells.view(np.dtype((np.void, cells.shape[1] * cells.itemsize)))[:, 0]
