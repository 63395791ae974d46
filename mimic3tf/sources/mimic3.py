"""Turn raw MIMIC-III v1.4 tables into a task in the benchmarks' layout.

Source: Harutyunyan et al., Multitask learning and benchmarking with clinical time series data, Scientific
Data 2019. The rules are those of its published pipeline. Here one pass leads from the tables to the task:
every event is read once, and all large data stays in an out-of-core database (see `database.py`).

OUTPUTEVENTS is not needed: none of its items measures one of the 17 channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.progress import Progress

from mimic3tf.channels import MIMIC3
from mimic3tf.data.records import LARGEST_VALUE
from mimic3tf.errors import DataError
from mimic3tf.sources import layout
from mimic3tf.sources.cleaning import number_sql, text_sql
from mimic3tf.sources.cohort_rules import cohort_sql
from mimic3tf.sources.csv_tables import Table, open_tables
from mimic3tf.sources.database import Database
from mimic3tf.sources.diagnoses import label_admissions, needs_diagnoses
from mimic3tf.sources.events import EVENT, Source, faults, prepare_events
from mimic3tf.sources.mimic3_cleaning import AS_CHARTED, NUMBERS, REFILL
from mimic3tf.sources.mimic3_items import ITEMS, NOT_BLOOD, UNITS
from mimic3tf.sources.splits import read_subjects, split_by_subject
from mimic3tf.storage.files import PathText
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.task import Task

_IDS = {"SUBJECT_ID": "BIGINT", "HADM_ID": "BIGINT"}
_EVENT = {**_IDS, "ITEMID": "BIGINT", "CHARTTIME": "TIMESTAMP", "VALUE": "VARCHAR", "VALUEUOM": "VARCHAR"}

TABLES: Mapping[str, Table] = {
    "PATIENTS": Table({"SUBJECT_ID": "BIGINT", "DOB": "TIMESTAMP", "DOD": "TIMESTAMP"}, "SUBJECT_ID"),
    "ADMISSIONS": Table(
        {**_IDS, "ADMITTIME": "TIMESTAMP", "DISCHTIME": "TIMESTAMP", "DEATHTIME": "TIMESTAMP"}, "HADM_ID"
    ),
    "ICUSTAYS": Table(
        {
            **_IDS,
            "ICUSTAY_ID": "BIGINT",
            **dict.fromkeys(("FIRST_CAREUNIT", "LAST_CAREUNIT", "FIRST_WARDID", "LAST_WARDID"), "VARCHAR"),
            **{"INTIME": "TIMESTAMP", "OUTTIME": "TIMESTAMP", "LOS": "DOUBLE"},
        },
        "ICUSTAY_ID",
    ),
    "DIAGNOSES_ICD": Table({**_IDS, "ICD9_CODE": "VARCHAR"}),
    "D_ICD_DIAGNOSES": Table({"ICD9_CODE": "VARCHAR"}),
    "CHARTEVENTS": Table({**_EVENT, "ICUSTAY_ID": "BIGINT"}),
    "LABEVENTS": Table(_EVENT),
}
"""The raw tables that are read."""

# What tasks that read whole stays need, too.
_SEX = {**TABLES["PATIENTS"].columns, "GENDER": "VARCHAR"}
_DETAILS = ", DEATHTIME AS deathtime, GENDER AS sex"

_UNDIAGNOSED = "no diagnosis of the admission that D_ICD_DIAGNOSES knows"

_DIAGNOSES = """
CREATE TABLE diagnosis AS
SELECT SUBJECT_ID AS subject, HADM_ID AS hadm, 9 AS version, ICD9_CODE AS code
FROM DIAGNOSES_ICD SEMI JOIN D_ICD_DIAGNOSES USING (ICD9_CODE)
"""

_STAYS = """
WITH known_diagnosis AS (
    -- The benchmarks drop codes that D_ICD_DIAGNOSES lacks, and stays that have no other code.
    SELECT DISTINCT SUBJECT_ID, HADM_ID
    FROM DIAGNOSES_ICD SEMI JOIN D_ICD_DIAGNOSES USING (ICD9_CODE)
)
SELECT i.SUBJECT_ID AS subject, i.HADM_ID AS hadm, i.ICUSTAY_ID AS icustay, INTIME AS intime,
    OUTTIME AS outtime, LOS AS los, a.HADM_ID IS NOT NULL AND p.SUBJECT_ID IS NOT NULL AS known,
    (FIRST_CAREUNIT = LAST_CAREUNIT AND FIRST_WARDID = LAST_WARDID) IS TRUE AS unmoved,
    d.HADM_ID IS NOT NULL AS diagnosed,
    -- A year has 365 days in the benchmarks. MIMIC-III hides an age above 89 by a birth 300 years before
    -- admission. The clock of the benchmarks overflows there, and they read a negative age as 90 years.
    date_diff('second', DOB, INTIME) / 3600 / 24 / 365 AS age,
    (DOD BETWEEN ADMITTIME AND DISCHTIME) IS TRUE
        OR (DEATHTIME BETWEEN ADMITTIME AND DISCHTIME) IS TRUE AS died{details}
FROM ICUSTAYS i
LEFT JOIN ADMISSIONS a ON a.HADM_ID = i.HADM_ID AND a.SUBJECT_ID = i.SUBJECT_ID
LEFT JOIN PATIENTS p ON p.SUBJECT_ID = i.SUBJECT_ID
LEFT JOIN known_diagnosis d ON d.HADM_ID = i.HADM_ID AND d.SUBJECT_ID = i.SUBJECT_ID
"""

# Charted times are whole seconds, so the benchmarks' tolerance at both ends of the window never matters.
# `other` is the ICU stay that an event belongs to, if this is not the stay in whose time the event lies.
_INSERT = """
INSERT INTO event BY NAME
WITH charted AS (
    SELECT s.stay, date_diff('second', s.intime, e.CHARTTIME) AS second, i.channel, i.unit, e.VALUE,
        e.VALUEUOM,
        nullif(a.icustay, s.icustay) AS other, other IS NULL OR e.CHARTTIME <= s.outtime AS inside,
        CASE
            WHEN e.HADM_ID IS NULL THEN 'no admission is named'
            WHEN a.hadm IS NULL THEN 'of an admission that is left out'
            WHEN {icustay} <> a.icustay THEN 'of an ICU stay that is left out'
            WHEN i.unwanted THEN 'measured in urine or another fluid'
        END AS fault
    FROM {table} e
    JOIN item i ON i.itemid = e.ITEMID
    JOIN stay s ON s.subject = e.SUBJECT_ID AND e.CHARTTIME BETWEEN s.intime AND s.last
    LEFT JOIN episode a ON a.subject = e.SUBJECT_ID AND a.hadm = e.HADM_ID
    WHERE e.VALUE <> ''
), cleaned AS (
    SELECT *, {number} AS charted_number, {text} AS text FROM charted
)
SELECT stay, second, channel, CASE WHEN abs(charted_number) <= {largest} THEN charted_number END AS number,
    text, other, inside,
    CASE
        WHEN fault IS NOT NULL THEN fault
        WHEN (abs(charted_number) <= {largest}) IS NOT TRUE AND text IS NULL
            THEN name || ' is no value of the channel'
    END AS fault
FROM cleaned JOIN channel USING (channel)
"""


def prepare_mimic3(
    csv: PathText,
    out: PathText,
    *,
    test_subjects: PathText | None = None,
    val_subjects: PathText | None = None,
    blood_only: bool = False,
    memory_limit: str = "4GB",
    task: Task = MORTALITY,
) -> layout.Summary:
    """Write a task of the benchmarks from the raw tables.

    Without lists of subjects, about 15 % of the subjects go to test and about 15 % to val. Only a hash of the
    subject's id decides the split. A hash of the stay decides the order within a split.

    Args:
        csv: directory of the raw tables that `TABLES` names, as .csv or .csv.gz.
        out: the directory to make; it may exist if it is empty.
        test_subjects: the benchmarks' `testset.csv` (lines `subject,flag`), or a file of one subject a line.
        val_subjects: the same for `valset.csv`; subjects of the test set stay in the test set.
        blood_only: leave out glucose and pH that were measured in urine or another fluid. The benchmarks
            treat them as values of the blood.
        memory_limit: memory to use, such as "4GB"; the tables may be much larger. Intermediate results are
            kept on disk beside `out`.
        task: the task; all but in-hospital mortality read whole stays of any length.

    Returns:
        What was written, and what was left out by reason; also in `layout.SUMMARY_FILE`.

    Raises:
        DataError: a table is missing or cannot be read; names file, line and column.
        UsageError: `out` is not empty, another process writes it, or the memory limit cannot be used.
    """
    csv, out = Path(csv), Path(out)
    given = {"test": test_subjects, "val": val_subjects}
    lists = {split: Path(path) for split, path in given.items() if path is not None}
    chosen = {split: read_subjects(path) for split, path in lists.items()}

    def splits(stays: pl.DataFrame) -> dict[str, NDArray[np.int64]]:
        for split, path in lists.items():
            if not chosen[split].intersection(stays["subject"]):
                raise DataError(f"{path}: names no subject of this cohort")
        return split_by_subject(stays, chosen)

    dealt = {f"{split}_subjects": "list" if split in lists else "hash" for split in given}
    options = {"blood_only": blood_only, **dealt}
    fill = partial(_fill, csv, blood_only, task)
    return prepare_events(
        Source("mimic3", csv, fill, splits, options, as_charted=AS_CHARTED, task=task), out, memory_limit
    )


def _fill(csv: Path, blood_only: bool, task: Task, database: Database, bar: Progress) -> dict[str, int]:
    """Make the tables of stays and events; return the number of stays left out, by reason."""
    whole = task.period is None
    patients = {"PATIENTS": replace(TABLES["PATIENTS"], columns=_SEX)} if whole else {}
    open_tables(database, csv, {**TABLES, **patients}, "MIMIC-III")
    if needs_diagnoses(task):
        database.run(_DIAGNOSES)
        label_admissions(database)
    cohort = cohort_sql(
        _STAYS.format(details=_DETAILS if whole else ""), undiagnosed=_UNDIAGNOSED, whole=whole
    )
    for sql in (*_lookups(blood_only), *cohort, EVENT):
        database.run(sql)
    for table in ("CHARTEVENTS", "LABEVENTS"):
        sql = _INSERT.format(
            table=table,
            icustay="e.ICUSTAY_ID" if "ICUSTAY_ID" in TABLES[table].columns else "NULL::BIGINT",
            number=number_sql(MIMIC3, NUMBERS),
            text=text_sql(MIMIC3, "VALUE", REFILL, AS_CHARTED),
            largest=LARGEST_VALUE,
        )
        database.run(sql, bar, f"Reading {table}")
    return faults(database, "candidate") | faults(database, "episode")


def _lookups(blood_only: bool) -> list[str]:
    """Write the statements that make the tables of channels and items."""
    positions = {name: position for position, name in enumerate(MIMIC3.names)}
    channels = ", ".join(f"({position}::TINYINT, '{name}')" for name, position in positions.items())
    unwanted = NOT_BLOOD if blood_only else ()
    items = ", ".join(
        f"({itemid}, {positions[name]}::TINYINT, {repr(UNITS[itemid]) if itemid in UNITS else 'NULL'}, "
        f"{itemid in unwanted})"
        for name, ids in ITEMS.items()
        for itemid in ids
    )
    return [
        f"CREATE TABLE channel AS FROM (VALUES {channels}) AS v(channel, name)",
        f"CREATE TABLE item AS FROM (VALUES {items}) AS v(itemid, channel, unit, unwanted)",
    ]
