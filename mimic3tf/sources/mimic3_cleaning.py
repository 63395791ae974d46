"""The benchmarks' cleaning of MIMIC-III values, as SQL: what a charted text means in its channel.

Source: Harutyunyan et al. 2019. Every rule is the one that the benchmarks' released data shows, even where a
better rule is possible: models and normalizers in the literature were made with these values.

The SQL expressions read the columns VALUE and VALUEUOM (text as charted; VALUEUOM may be null), `channel`
(position in `MIMIC3`) and `unit` (from `mimic3_items.UNITS`, or null).
"""

from __future__ import annotations

REFILL = {
    "Capillary refill rate": {
        "Normal <3 secs": "0.0",
        "Brisk": "0.0",
        "Abnormal >3 secs": "1.0",
        "Delayed": "1.0",
    }
}
"""Channel -> charted text -> category; the texts of all other channels are their categories."""

AS_CHARTED = ("Heart Rate", "Mean blood pressure", "Respiratory rate")
"""Numeric channels that the benchmarks never parse: of two values at an instant, the last as text wins."""

_NUMBER = "TRY_CAST(VALUE AS DOUBLE)"
_UOM = "lower(coalesce(VALUEUOM, ''))"
# Laboratories also report texts such as "ERROR" and ">600".
_PLAIN_NUMBER = rf"CASE WHEN regexp_full_match(VALUE, '\d+(\.\d*)?|\.\d+') THEN {_NUMBER} END"


def _pressure(part: int) -> str:
    pair = rf"regexp_extract(VALUE, '^(\d+)/(\d+)$', {part})"
    return f"TRY_CAST(CASE WHEN contains(VALUE, '/') THEN {pair} ELSE VALUE END AS DOUBLE)"


_POUNDS = f"(unit IN ('lb', 'oz') OR contains({_UOM}, 'oz') OR contains({_UOM}, 'lb')) IS TRUE"
_OUNCES = f"(unit = 'oz' OR contains({_UOM}, 'oz')) IS TRUE"
_INCHES = f"(unit = 'in' OR contains({_UOM}, 'in')) IS TRUE"

NUMBERS = {
    "Diastolic blood pressure": _pressure(2),
    "Systolic blood pressure": _pressure(1),
    # Charted in percent, even if the number is small, unless the unit is torr.
    "Fraction inspired oxygen": f"CASE WHEN contains({_UOM}, 'torr') THEN {_NUMBER} ELSE {_NUMBER} / 100 END",
    "Oxygen saturation": f"CASE WHEN {_NUMBER} <= 1 THEN 100 * ({_PLAIN_NUMBER}) ELSE {_PLAIN_NUMBER} END",
    "Glucose": _PLAIN_NUMBER,
    "pH": _PLAIN_NUMBER,
    # Only the number decides the unit: nobody has 79 degrees Celsius.
    "Temperature": f"CASE WHEN {_NUMBER} >= 79 THEN ({_NUMBER} - 32) * 5 / 9 ELSE {_NUMBER} END",
    "Weight": f"{_NUMBER} / (CASE WHEN {_OUNCES} THEN 16 ELSE 1 END)"
    f" * (CASE WHEN {_POUNDS} THEN 0.453592::DOUBLE ELSE 1 END)",
    "Height": f"CASE WHEN {_INCHES} THEN round_even({_NUMBER} * 2.54::DOUBLE, 0) ELSE {_NUMBER} END",
}
"""Channel -> SQL of its value in the channel's unit (DOUBLE); null if the text is no number."""
