"""Diagnoses of an admission -> the benchmarks' 25 phenotypes, in the database.

`mappings/phenotypes.csv` says which codes make a phenotype. It holds 25 groups of two tables of the Agency
for Healthcare Research and Quality (AHRQ), an agency of the government of the United States:

- ICD-9-CM: Clinical Classifications Software (CCS) 2015, single level; 767 codes, those of the benchmarks.
- ICD-10-CM: CCS for ICD-10-CM, beta version 2019.1; 1,967 codes. The benchmarks have no ICD-10. The groups
  have the same numbers and names, but the two ways of coding differ, and so do the frequencies of the groups.

Codes of ICD-9-CM match as a whole. A code of ICD-10-CM that is newer than the table divides an older one, so
it belongs to the group of the code that it begins with: I48.11 (2019) to the group of I48.1.
"""

from __future__ import annotations

from importlib import resources

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.sources.database import Database
from mimic3tf.storage.notes import note
from mimic3tf.tasks.phenotypes import PHENOTYPES
from mimic3tf.tasks.registry import MULTITASK, PHENOTYPING
from mimic3tf.tasks.task import Task

_LABELLED = """
CREATE TABLE labelled AS
WITH grouped AS (
    SELECT d.version, d.code, p.label
    FROM (SELECT DISTINCT version, code FROM diagnosis) d JOIN phenotype p
        ON p.version = d.version AND (p.code = d.code OR (d.version = 10 AND starts_with(d.code, p.code)))
)
SELECT DISTINCT subject, hadm, label FROM diagnosis JOIN grouped USING (version, code)
"""


def needs_diagnoses(task: Task) -> bool:
    """Tell whether a task has phenotypes among its labels."""
    return task in (PHENOTYPING, MULTITASK)


def read_phenotype_codes() -> pl.DataFrame:
    """Read which codes make a phenotype: version (9 or 10), code (without a dot), label (0 to 24)."""
    file = resources.files("mimic3tf.sources") / "mappings" / "phenotypes.csv"
    table = pl.read_csv(file.read_bytes(), schema_overrides={"icd_version": pl.Int32})
    labels = {name: label for label, name in enumerate(PHENOTYPES)}
    return table.select(
        version="icd_version",
        code=pl.col("codes").str.split(" "),
        label=pl.col("phenotype").replace_strict(labels, return_dtype=pl.Int16),
    ).explode("code")


def label_admissions(database: Database) -> None:
    """Make the table `labelled` (subject, hadm, label): the phenotypes of each admission.

    The database has a table `diagnosis`: subject, hadm, version (9 or 10) and code (without a dot).
    """
    database.add_stream("phenotype_stream", read_phenotype_codes().lazy())
    database.run("CREATE TABLE phenotype AS FROM phenotype_stream")
    database.run(_LABELLED)


def diagnosed_sql(joined: str) -> str:
    """Write the SQL of ICU stays (see `cohort_sql`) whose `diagnosed` tells if `diagnosis` has them."""
    return f"""
SELECT * REPLACE (d.hadm IS NOT NULL AS diagnosed)
FROM ({joined}) s LEFT JOIN (SELECT DISTINCT subject, hadm FROM diagnosis) d USING (subject, hadm)
"""


def read_phenotypes(database: Database, stays: int) -> tuple[NDArray[np.int8], dict[str, int]]:
    """Read the phenotypes of the stays in the table `kept`.

    Args:
        database: a database with the tables `kept`, `diagnosis` and `labelled`.
        stays: number of the stays N.

    Returns:
        int8 [N, 25], 1 where a stay's admission has the phenotype; and how many stays are coded in which
        version of ICD.
    """
    phenotypes = np.zeros((stays, len(PHENOTYPES)), np.int8)
    found = database.frame("SELECT position, label FROM kept JOIN labelled USING (subject, hadm)")
    phenotypes[found["position"].to_numpy(), found["label"].to_numpy()] = 1
    versions = database.run(
        "SELECT version, count(*) FROM kept JOIN (SELECT DISTINCT subject, hadm, version FROM diagnosis) "
        "USING (subject, hadm) GROUP BY ALL ORDER BY ALL"
    )
    coded = {f"ICD-{version}-CM": int(str(count)) for version, count in versions}
    if len(coded) > 1 or "ICD-10-CM" in coded:
        told = ", ".join(f"{count} stays in {version}" for version, count in coded.items())
        note(
            f"diagnoses are coded for {told}; the groups of ICD-10-CM are AHRQ's beta version of 2019, and "
            "their frequencies differ from those of ICD-9-CM, which the benchmarks use"
        )
    return phenotypes, coded
