"""How long a source takes, and how much memory, beside a bare scan of the same data.

A small data set is copied many times with shifted ids: every copy has patients, admissions and ICU stays of
its own, so the prepared cohort grows with the data. The bare scan reads the same columns with the same
engine, memory and threads, and only counts the rows of the mapped codes.

Examples:
  python tests/benchmarks/sources.py meds shared/data/mimic-iv-demo-meds /tmp/scratch --copies 1 10 100
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

SHIFTED = dict.fromkeys(("subject_id", "hadm_id", "stay_id", "icustay_id"), 10**8)
"""Id column -> distance between two copies."""


def copy_rows(rows: str, target: Path, copies: str, options: str) -> None:
    """Write rows once for each copy, with shifted ids.

    Args:
        rows: SQL of the rows.
        target: file to make.
        copies: SQL of the numbers of the copies, such as "range(10)".
        options: options of the engine's COPY.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(config={"preserve_insertion_order": True, "threads": 2}) as connection:
        columns = [str(name) for name, *_ in connection.execute(f"DESCRIBE FROM {rows}").fetchall()]
        shifted = ", ".join(
            f"CAST({name} AS BIGINT) + copy * {SHIFTED[name]} AS {name}" if name in SHIFTED else f'"{name}"'
            for name in columns
        )
        connection.execute(
            f"COPY (SELECT {shifted} FROM {rows}, {copies} AS copies(copy)) TO '{target}' ({options})"
        )


def copy_meds(source: Path, out: Path, copies: int) -> None:
    """Copy a MEDS data set; every copy has shards of its own."""
    for shard in sorted((source / "data").rglob("*.parquet")):
        for copy in range(copies):
            target = out / "data" / shard.parent.name / f"{shard.stem}-{copy}.parquet"
            copy_rows(f"read_parquet('{shard}')", target, f"range({copy}, {copy + 1})", "FORMAT parquet")
    splits = source / "metadata" / "subject_splits.parquet"
    copy_rows(
        f"read_parquet('{splits}')", out / "metadata" / splits.name, f"range({copies})", "FORMAT parquet"
    )
    shutil.copy(source / "metadata" / "codes.parquet", out / "metadata")


def copy_tables(source: Path, out: Path, copies: int) -> None:
    """Copy the CSV tables in a folder and in the folders inside it."""
    for table in sorted(path for path in source.rglob("*.csv*") if path.is_file()):
        rows = f"read_csv('{table}', all_varchar = true, header = true, delim = ',', quote = '\"')"
        target = out / table.relative_to(source).with_suffix("").with_suffix(".csv")
        copy_rows(rows, target, f"range({copies})", "HEADER")
