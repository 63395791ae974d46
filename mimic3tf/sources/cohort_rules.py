"""Which ICU stays make the benchmarks' cohorts, as SQL.

Source: the published pipeline of Harutyunyan et al. 2019. Its rules are listed in its order; a stay is left
out by the first rule that it breaks:

1. the stay begins and ends in one care unit (and one ward, where wards are known);
2. its admission and its patient are in their tables;
3. no other stay of the same admission fulfils rules 1 and 2;
4. the patient is at least 18 years old;
5. the admission has a known diagnosis (only where the source asks for it);
6. the length of the stay is known, and at least 48 hours;
7. the first 48 hours hold a measurement (`events.py` finds this out).

A patient's stays are numbered after rule 4. Tasks that read the whole stay take stays of any length, with a
measurement in the stay.
"""

from __future__ import annotations

HOURS = 48
"""Hours of the observation window, which begins with the admission to the ICU."""

EPSILON = 1e-6
"""The benchmarks compare hours with this tolerance."""

_CANDIDATES = """
CREATE TABLE candidate AS
SELECT *, CASE
    WHEN {restricted} AND NOT unmoved THEN 'transfer between ICU units or wards'
    WHEN NOT known THEN '{unknown}'
    WHEN {restricted} AND count(*) FILTER (unmoved AND known) OVER (PARTITION BY hadm) > 1
        THEN 'several in one admission'
    WHEN age IS NULL THEN 'no date of birth'
    WHEN age >= 0 AND age < 18 THEN 'younger than 18'
END AS fault
FROM ({joined})
"""

_EPISODES = """
CREATE TABLE episode AS
SELECT * EXCLUDE (fault), row_number() OVER (PARTITION BY subject ORDER BY intime, outtime, icustay) AS k,
    CASE
        WHEN NOT diagnosed THEN '{undiagnosed}'
        WHEN los IS NULL OR NOT isfinite(los) THEN 'of unknown length'
        {too_short}
    END AS fault
FROM candidate WHERE fault IS NULL
"""

_TOO_SHORT = f"WHEN 24 * los < {HOURS} - {EPSILON} THEN 'shorter than {HOURS} hours'"

_STAYS = """
CREATE TABLE stay AS
SELECT row_number() OVER (ORDER BY subject, k) - 1 AS stay, *, {last} AS last{details}
FROM episode WHERE fault IS NULL
"""

# Rows belong to a stay up to a microhour after the length that the table names.
_END = f"intime + to_microseconds(floor((24 * los + {EPSILON}) * 3_600_000_000)::BIGINT)"

_DETAILS = """,
    24 * los AS hours, date_diff('microsecond', intime, deathtime) / 1e6 / 3600 AS lived,
    -- A birth after the admission, or centuries before it, hides an age above 89.
    CASE WHEN age < 0 OR age > 150 THEN 90 ELSE age END AS years
"""


def cohort_sql(
    joined: str,
    *,
    all_stays: bool = False,
    unknown: str = "no such patient or admission",
    undiagnosed: str = "no diagnosis of the admission",
    whole: bool = False,
) -> tuple[str, str, str]:
    """Write the statements that choose the stays.

    They make the tables `candidate` (every ICU stay), `episode` (the stays that rules 1 to 4 leave, with
    their number `k`) and `stay` (those that rules 1 to 6 leave). `fault` says why a row is not in the next
    table; it is null if the row is there.

    Args:
        joined: SQL of all ICU stays, with columns subject, hadm, icustay, intime, outtime, los (days), known,
            unmoved, diagnosed (rules 1, 2 and 5 as BOOLEAN), age (years at `intime`; a negative age counts
            as 90) and died (BOOLEAN); if `whole`, also deathtime and sex (null if it is not known).
        all_stays: leave out rules 1 and 3, so that patients count who changed the unit or came back.
        unknown: what breaks rule 2, in words for the user.
        undiagnosed: what breaks rule 5.
        whole: take stays of any length, up to their end; `stay` gets the columns hours, lived (hours to the
            death) and years.
    """
    restricted = "false" if all_stays else "true"
    return (
        _CANDIDATES.format(joined=joined, restricted=restricted, unknown=unknown),
        _EPISODES.format(undiagnosed=undiagnosed, too_short="" if whole else _TOO_SHORT),
        _STAYS.format(
            last=_END if whole else f"intime + INTERVAL {HOURS} HOUR", details=_DETAILS if whole else ""
        ),
    )
