"""Which ICU stays make the benchmarks' in-hospital-mortality cohort, as SQL.

Source: the published pipeline of Harutyunyan et al. 2019. Its rules are listed in its order; a stay is left
out by the first rule that it breaks:

1. the stay begins and ends in one care unit (and one ward, where wards are known);
2. its admission and its patient are in their tables;
3. no other stay of the same admission fulfils rules 1 and 2;
4. the patient is at least 18 years old;
5. the admission has a known diagnosis (only where the source asks for it);
6. the length of the stay is known, and at least 48 hours;
7. the first 48 hours hold a measurement (`events.py` finds this out).

A patient's stays are numbered after rule 4.
"""

from __future__ import annotations

HOURS = 48
"""Hours of the observation window, which begins with the admission to the ICU."""

# The benchmarks compare hours with this tolerance.
_EPSILON = 1e-6

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

_EPISODES = f"""
CREATE TABLE episode AS
SELECT * EXCLUDE (fault), row_number() OVER (PARTITION BY subject ORDER BY intime, outtime, icustay) AS k,
    CASE
        WHEN NOT diagnosed THEN 'no diagnosis of the admission that D_ICD_DIAGNOSES knows'
        WHEN los IS NULL OR isnan(los) THEN 'of unknown length'
        WHEN 24 * los < {HOURS} - {_EPSILON} THEN 'shorter than {HOURS} hours'
    END AS fault
FROM candidate WHERE fault IS NULL
"""

_STAYS = f"""
CREATE TABLE stay AS
SELECT row_number() OVER (ORDER BY subject, k) - 1 AS stay, *, intime + INTERVAL {HOURS} HOUR AS last
FROM episode WHERE fault IS NULL
"""


def cohort_sql(
    joined: str, *, all_stays: bool = False, unknown: str = "no such patient or admission"
) -> tuple[str, str, str]:
    """Write the statements that choose the stays.

    They make the tables `candidate` (every ICU stay), `episode` (the stays that rules 1 to 4 leave, with
    their number `k`) and `stay` (those that rules 1 to 6 leave). `fault` says why a row is not in the next
    table; it is null if the row is there.

    Args:
        joined: SQL of all ICU stays, with columns subject, hadm, icustay, intime, outtime, los (days), known,
            unmoved, diagnosed (rules 1, 2 and 5 as BOOLEAN), age (years at `intime`; a negative age counts
            as 90) and died (BOOLEAN).
        all_stays: leave out rules 1 and 3, so that patients count who changed the unit or came back.
        unknown: what breaks rule 2, in words for the user.
    """
    restricted = "false" if all_stays else "true"
    candidates = _CANDIDATES.format(joined=joined, restricted=restricted, unknown=unknown)
    return candidates, _EPISODES, _STAYS
