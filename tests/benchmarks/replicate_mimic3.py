"""Raw MIMIC-III tables, many times over: a large input for measurements out of a small one.

Every copy has patients, admissions and ICU stays of its own (ids are shifted by a million a copy), so the
prepared cohort grows with the tables. Rows of different copies are mixed, as subjects are in the real
CHARTEVENTS. One copy of the MIMIC-III demo is 80 MB of plain CSV; 100 copies are 8 GB.

Example:
  python tests/benchmarks/replicate_mimic3.py shared/data/mimic-iii-demo /tmp/mimic3-10x --copies 10
"""

from __future__ import annotations

import argparse
from pathlib import Path

import duckdb

TABLES = (
    *("PATIENTS", "ADMISSIONS", "ICUSTAYS", "DIAGNOSES_ICD", "D_ICD_DIAGNOSES"),
    *("CHARTEVENTS", "LABEVENTS", "OUTPUTEVENTS"),
)
SHIFTED = {"ROW_ID": 10**9, "SUBJECT_ID": 10**6, "HADM_ID": 10**6, "ICUSTAY_ID": 10**6}
"""Id column -> distance between two copies."""


def replicate(source: Path, out: Path, copies: int, *, compressed: bool = False) -> None:
    """Write `copies` copies of these tables of `source` (.csv or .csv.gz) to `out`."""
    out.mkdir(parents=True)
    with duckdb.connect() as connection:
        connection.execute("SET preserve_insertion_order = false")
        for table in TABLES:
            (path,) = (path for path in source.iterdir() if path.name in (f"{table}.csv", f"{table}.csv.gz"))
            rows = f"read_csv('{path}', all_varchar = true, header = true, delim = ',', quote = '\"')"
            columns = [str(name) for name, *_ in connection.execute(f"DESCRIBE FROM {rows}").fetchall()]
            shifted = ", ".join(
                f"CAST({name} AS BIGINT) + copy * {SHIFTED[name]} AS {name}" if name in SHIFTED else name
                for name in columns
            )
            target = out / f"{table}.csv{'.gz' if compressed else ''}"
            connection.execute(
                f"COPY (SELECT {shifted} FROM {rows}, range({copies}) AS copies(copy)) TO '{target}' (HEADER)"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", type=Path, help="directory of the raw tables")
    parser.add_argument("out", type=Path, help="directory to make")
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--compressed", action="store_true", help="write .csv.gz")
    arguments = parser.parse_args()
    replicate(arguments.source, arguments.out, arguments.copies, compressed=arguments.compressed)
