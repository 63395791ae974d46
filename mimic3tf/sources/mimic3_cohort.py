"""Which ICU stays of MIMIC-III make the benchmarks' in-hospital-mortality cohort, as SQL.

Source: the published pipeline of Harutyunyan et al. 2019. Its rules are listed in its order; a stay is left
out by the first rule that it breaks:

1. the stay begins and ends in one care unit and one ward;
2. its admission is in ADMISSIONS, its patient in PATIENTS;
3. no other stay of the same admission fulfils rules 1 and 2;
4. the patient is at least 18 years old;
5. the admission has a diagnosis whose ICD-9 code is in D_ICD_DIAGNOSES;
6. the length of the stay is known, and at least 48 hours;
7. the first 48 hours hold a measurement (`sources/mimic3.py` reads the events).

A patient's stays are numbered after rule 4.
"""

from __future__ import annotations

HOURS = 48
"""Hours of the observation window, which begins with the admission to the ICU."""

# The benchmarks compare hours with this tolerance.
_EPSILON = 1e-6

CANDIDATES = """
CREATE TABLE candidate AS
WITH diagnosed AS (
    -- The benchmarks drop codes that D_ICD_DIAGNOSES lacks, and stays that have no other code.
    SELECT DISTINCT SUBJECT_ID, HADM_ID
    FROM DIAGNOSES_ICD SEMI JOIN D_ICD_DIAGNOSES USING (ICD9_CODE)
), joined AS (
    SELECT i.SUBJECT_ID AS subject, i.HADM_ID AS hadm, i.ICUSTAY_ID AS icustay, INTIME AS intime,
        OUTTIME AS outtime, LOS AS los, a.HADM_ID IS NOT NULL AND p.SUBJECT_ID IS NOT NULL AS known,
        (FIRST_CAREUNIT = LAST_CAREUNIT AND FIRST_WARDID = LAST_WARDID) IS TRUE AS unmoved,
        d.HADM_ID IS NOT NULL AS diagnosed,
        -- A year has 365 days in the benchmarks. MIMIC-III hides an age above 89 by a birth 300 years before
        -- admission. The clock of the benchmarks overflows there, and they read a negative age as 90 years.
        date_diff('second', DOB, INTIME) / 3600 / 24 / 365 AS age,
        (DOD BETWEEN ADMITTIME AND DISCHTIME) IS TRUE
            OR (DEATHTIME BETWEEN ADMITTIME AND DISCHTIME) IS TRUE AS died
    FROM ICUSTAYS i
    LEFT JOIN ADMISSIONS a ON a.HADM_ID = i.HADM_ID AND a.SUBJECT_ID = i.SUBJECT_ID
    LEFT JOIN PATIENTS p ON p.SUBJECT_ID = i.SUBJECT_ID
    LEFT JOIN diagnosed d ON d.HADM_ID = i.HADM_ID AND d.SUBJECT_ID = i.SUBJECT_ID
)
SELECT *, CASE
    WHEN NOT unmoved THEN 'transfer between ICU units or wards'
    WHEN NOT known THEN 'no such patient or admission'
    WHEN count(*) FILTER (unmoved AND known) OVER (PARTITION BY hadm) > 1 THEN 'several in one admission'
    WHEN age IS NULL THEN 'no date of birth'
    WHEN age >= 0 AND age < 18 THEN 'younger than 18'
END AS fault
FROM joined
"""

EPISODES = f"""
CREATE TABLE episode AS
SELECT * EXCLUDE (fault), row_number() OVER (PARTITION BY subject ORDER BY intime, outtime, icustay) AS k,
    CASE
        WHEN NOT diagnosed THEN 'no diagnosis of the admission that D_ICD_DIAGNOSES knows'
        WHEN los IS NULL OR isnan(los) THEN 'of unknown length'
        WHEN 24 * los < {HOURS} - {_EPSILON} THEN 'shorter than {HOURS} hours'
    END AS fault
FROM candidate WHERE fault IS NULL
"""

STAYS = f"""
CREATE TABLE stay AS
SELECT row_number() OVER (ORDER BY subject, k) - 1 AS stay, *, intime + INTERVAL {HOURS} HOUR AS last
FROM episode WHERE fault IS NULL
"""

COHORT = (CANDIDATES, EPISODES, STAYS)
"""Statements that make the tables `candidate` (every ICU stay), `episode` (the stays that rules 1 to 4 leave,
with their number `k`) and `stay` (those that rules 1 to 6 leave). `fault` says why a row is not in the next
table; it is null if the row is there."""
