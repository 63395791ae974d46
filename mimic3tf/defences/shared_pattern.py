"""Tables of the patterns that flagged stays share, beside the shift of the attack if that is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.data.cohort import Cohort
from mimic3tf.defences.common_pattern.finding import CommonPattern, Pattern

DIGITS = 4
"""Significant digits of a shift."""
Floats = NDArray[np.float64]


def pattern_table(found: CommonPattern | None, cohort: Cohort, true_shift: Floats | None) -> pl.DataFrame:
    """List the patterns for every hour of every channel that was compared.

    Args:
        found: what was found; None if the detector was not used or could not judge.
        cohort: stays with the same channels and bins.
        true_shift: [T, C], the shift of the attack; None if it is not known.

    Returns:
        `pattern` (its number, from 1), `hour`, `channel`, `unit`, `shift` and `standard_error` in this unit,
        and `true_shift` (null if it is not known); no rows if no pattern was found.
    """
    shifts: dict[str, type[pl.DataType]] = dict.fromkeys(
        ("shift", "standard_error", "true_shift"), pl.Float64
    )
    schema: dict[str, type[pl.DataType]] = {
        **{"pattern": pl.Int64, "hour": pl.Float64, "channel": pl.String, "unit": pl.String},
        **shifts,
    }
    tables = [
        pl.DataFrame(
            {
                "pattern": number,
                "hour": np.arange(cohort.bins) * cohort.timestep,
                "channel": cohort.channels[at].name,
                "unit": cohort.channels[at].shown_unit,
                "shift": pattern.shift[:, at],
                "standard_error": pattern.error[:, at],
                "true_shift": None if true_shift is None else true_shift[:, at],
            },
            schema_overrides=schema,
        )
        for number, pattern in enumerate(found.patterns if found else (), 1)
        for at in _compared(pattern)
    ]
    return pl.concat([pl.DataFrame(schema=schema), *tables]).with_columns(
        pl.col(*shifts).round_sig_figs(DIGITS)
    )


def pattern_records(
    found: CommonPattern | None, cohort: Cohort, true_shift: Floats | None
) -> list[dict[str, Any]]:
    """Summarize the patterns by channel, for `audit.json`.

    Shifts are compared in standard deviations of their channel's measured values, and hours by the square
    root of how often they are measured.

    Args:
        found: what was found; None if the detector was not used or could not judge.
        cohort: trusted stays.
        true_shift: [T, C], the shift of the attack; None if it is not known.

    Returns:
        For each pattern: the number of `stays` that carry it, its `p_value`, its `cosine` with the true shift
        (None if that is not known), and `channels`, those with the largest shift first: `channel`, `unit`,
        and at the `hour` of the largest shift, this `shift`, its `standard_error` and the `true_shift`.
    """
    return [_record(pattern, cohort, true_shift) for pattern in (found.patterns if found else ())]


def _record(pattern: Pattern, cohort: Cohort, true_shift: Floats | None) -> dict[str, Any]:
    channels = _compared(pattern)
    weights = np.sqrt(cohort.masks.mean(axis=0))[:, channels] / _spreads(cohort, channels)
    shown = pattern.shift[:, channels] * weights
    cosine = None
    if true_shift is not None:
        true = true_shift[:, channels] * weights
        lengths = np.linalg.norm(shown) * np.linalg.norm(true)
        cosine = float((shown * true).sum() / lengths) if lengths > 0 else None
    rows = []
    for place in np.argsort(-np.linalg.norm(shown, axis=0), kind="stable"):
        at, hour = channels[place], int(np.abs(shown[:, place]).argmax())
        rows.append(
            {
                "channel": cohort.channels[at].name,
                "unit": cohort.channels[at].shown_unit,
                "hour": hour * cohort.timestep,
                "shift": float(pattern.shift[hour, at]),
                "standard_error": float(pattern.error[hour, at]),
                "true_shift": None if true_shift is None else float(true_shift[hour, at]),
            }
        )
    return {"stays": pattern.stays, "p_value": pattern.p_value, "cosine": cosine, "channels": rows}


def _compared(pattern: Pattern) -> list[int]:
    return np.flatnonzero(pattern.error.max(axis=0) > 0).tolist()


def _spreads(cohort: Cohort, channels: list[int]) -> Floats:
    measured = [cohort.grids[..., at][cohort.masks[..., at]] for at in channels]
    spreads = np.array([cells.std(dtype=np.float64) if len(cells) else 0.0 for cells in measured])
    return np.where(spreads > 0, spreads, 1.0)
