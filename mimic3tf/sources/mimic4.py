"""Turn raw MIMIC-IV tables (v2.2, v3.1) into a task in the benchmarks' layout.

The cohort is that of the MIMIC-III benchmarks, without their rules on wards and diagnoses: MIMIC-IV names no
wards, and nearly every admission has a diagnosis (one is asked for where phenotypes are labels). Which items
measure a channel is in `mappings/mimic4.yaml`. The cleaning is not that of the benchmarks, which corrects
CareVue's units: a number counts as a number, is converted from the unit of its item, and the largest of
several at one instant wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.progress import Progress

from mimic3tf.sources import layout
from mimic3tf.sources.codes import charted_sql, codes_of, insert_sql
from mimic3tf.sources.cohort_rules import cohort_sql
from mimic3tf.sources.csv_tables import Table, open_tables
from mimic3tf.sources.database import Database
from mimic3tf.sources.diagnoses import diagnosed_sql, label_admissions, needs_diagnoses
from mimic3tf.sources.events import EVENT, Source, faults, prepare_events
from mimic3tf.sources.meds_mapping import shipped_meds_mapping
from mimic3tf.sources.splits import split_by_subject
from mimic3tf.storage.files import PathText
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.task import Task

_EVENT = {
    **dict.fromkeys(("subject_id", "itemid"), "BIGINT"),
    "charttime": "TIMESTAMP",
    **dict.fromkeys(("value", "valuenum"), "VARCHAR"),
}

TABLES: Mapping[str, Table] = {
    "patients": Table(
        dict.fromkeys(("subject_id", "anchor_age", "anchor_year"), "BIGINT"), "subject_id", "hosp"
    ),
    "admissions": Table(
        dict.fromkeys(("subject_id", "hadm_id", "hospital_expire_flag"), "BIGINT"), "hadm_id", "hosp"
    ),
    "icustays": Table(
        {
            **dict.fromkeys(("subject_id", "hadm_id", "stay_id"), "BIGINT"),
            **dict.fromkeys(("first_careunit", "last_careunit"), "VARCHAR"),
            **{"intime": "TIMESTAMP", "outtime": "TIMESTAMP", "los": "DOUBLE"},
        },
        "stay_id",
        "icu",
    ),
    "chartevents": Table({**_EVENT, "stay_id": "BIGINT"}, folder="icu"),
    "labevents": Table(_EVENT, folder="hosp"),
}
"""The raw tables that are read."""

# What tasks that read whole stays need, too, and those with phenotypes.
_WHOLE = {"patients": {"gender": "VARCHAR"}, "admissions": {"deathtime": "TIMESTAMP"}}
_DETAILS = ", deathtime, gender AS sex"
_CODED = Table(
    {**dict.fromkeys(("subject_id", "hadm_id", "icd_version"), "BIGINT"), "icd_code": "VARCHAR"},
    folder="hosp",
)
_DIAGNOSES = """
CREATE TABLE diagnosis AS
SELECT subject_id AS subject, hadm_id AS hadm, icd_version AS version, trim(icd_code) AS code
FROM diagnoses_icd WHERE icd_code <> ''
"""

_STAYS = """
SELECT i.subject_id AS subject, i.hadm_id AS hadm, i.stay_id AS icustay, intime, outtime, los,
    (hospital_expire_flag IN (0, 1)) IS TRUE AND p.subject_id IS NOT NULL AS known,
    (first_careunit = last_careunit) IS TRUE AS unmoved, true AS diagnosed,
    anchor_age + year(intime) - anchor_year AS age, hospital_expire_flag = 1 AS died{details}
FROM icustays i
LEFT JOIN admissions a ON a.hadm_id = i.hadm_id AND a.subject_id = i.subject_id
LEFT JOIN patients p ON p.subject_id = i.subject_id
"""

# The text of a laboratory's value is often "___", but its number is there. Only the text tells what a coma
# score means: `valuenum` is 1 for "No Response-ETT", too.
_EVENTS = """
FROM (
    SELECT e.subject_id AS subject, {icustay} AS icustay, e.charttime AS time, i.code, i.at_admission,
        CASE WHEN i.of_categories THEN e.value ELSE coalesce(e.valuenum, e.value) END AS charted
    FROM {table} e JOIN item i ON i.itemid = e.itemid
)
SELECT * RENAME (charted AS value) WHERE charted <> ''
"""


def prepare_mimic4(
    data: PathText,
    out: PathText,
    *,
    all_stays: bool = False,
    memory_limit: str = "4GB",
    task: Task = MORTALITY,
) -> layout.Summary:
    """Write a task of the benchmarks from the raw tables.

    Height and admission weight are charted before the ICU stay begins, and count for its start. A hash of the
    subject's id decides the split, as in `split_by_subject`.

    Args:
        data: directory of the data set, with the folders hosp and icu; `TABLES` names the tables that are
            read, as .csv or .csv.gz.
        out: the directory to make; it may exist if it is empty.
        all_stays: keep stays that change the unit, and several stays of an admission; the benchmarks' rules
            leave them out.
        memory_limit: memory to use, such as "4GB"; intermediate results are kept on disk beside `out`.
        task: the task; all but in-hospital mortality read whole stays of any length.

    Returns:
        Counts of stays and deaths, and of what was left out by reason.

    Raises:
        DataError: a table is missing or cannot be read; names file, line and column.
        UsageError: `out` is not empty, another process writes it, or the memory limit cannot be used.
    """
    fill = partial(_fill, Path(data), all_stays, task)
    options = {"all_stays": all_stays}
    return prepare_events(
        Source("mimic4", Path(data), fill, split_by_subject, options, task=task), Path(out), memory_limit
    )


def _fill(data: Path, all_stays: bool, task: Task, database: Database, bar: Progress) -> dict[str, int]:
    """Make the tables of stays and events; return the number of stays left out, by reason."""
    whole = task.period is None
    open_tables(database, data, _tables(task), "MIMIC-IV")
    stays = _STAYS.format(details=_DETAILS if whole else "")
    if needs_diagnoses(task):
        database.run(_DIAGNOSES, bar, "Reading diagnoses")
        label_admissions(database)
        stays = diagnosed_sql(stays)
    codes = codes_of(shipped_meds_mapping("mimic4"), "mimic4.yaml")
    items = ", ".join(
        f"({itemid}, {index}, {bool(code.categories)}, {code.at_admission})"
        for index, code in enumerate(codes)
        for itemid in code.items
    )
    database.run(
        f"CREATE TABLE item AS FROM (VALUES {items}) AS v(itemid, code, of_categories, at_admission)"
    )
    for sql in (*cohort_sql(stays, all_stays=all_stays, whole=whole), EVENT):
        database.run(sql)
    for table in ("chartevents", "labevents"):
        icustay = "e.stay_id" if "stay_id" in TABLES[table].columns else "NULL::BIGINT"
        events = _EVENTS.format(table=table, icustay=icustay)
        database.run(insert_sql(charted_sql(events), codes), bar, f"Reading {table}")
    return faults(database, "candidate") | faults(database, "episode")


def _tables(task: Task) -> dict[str, Table]:
    """Return the tables that a task needs, with their columns."""
    tables = {**TABLES}
    for name, columns in _WHOLE.items() if task.period is None else ():
        tables[name] = replace(tables[name], columns={**tables[name].columns, **columns})
    return tables | {"diagnoses_icd": _CODED} if needs_diagnoses(task) else tables
