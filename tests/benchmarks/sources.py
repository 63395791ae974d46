"""How long a source takes, and how much memory, beside a bare scan of the same data.

A small data set is copied many times with shifted ids: every copy has patients, admissions and ICU stays of
its own, so the prepared cohort grows with the data. Two bare scans read the same files with the same engine,
memory and threads, and keep nothing: `count` counts the events of the mapped codes, and needs their code
alone; `read` also reads all that is needed of them (subject, time, value and id of the stay). All find out
which codes are mapped first.

Examples:
  python tests/benchmarks/sources.py meds shared/data/mimic-iv-demo-meds /tmp/scratch --copies 1 10 100
  python tests/benchmarks/sources.py mimic4 shared/data/mimic-iv-demo-2.2 /tmp/scratch --copies 1 10 100
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb

from mimic3tf.channels import MIMIC3
from mimic3tf.progress import track
from mimic3tf.sources.cleaning import quoted
from mimic3tf.sources.codes import codes_of
from mimic3tf.sources.csv_tables import open_tables
from mimic3tf.sources.database import Database, parse_size, progress_bar
from mimic3tf.sources.meds import prepare_meds, resolve
from mimic3tf.sources.meds_files import find_shards
from mimic3tf.sources.meds_mapping import shipped_meds_mapping
from mimic3tf.sources.mimic4 import TABLES, prepare_mimic4

SHIFTED = dict.fromkeys(("subject_id", "hadm_id", "stay_id", "icustay_id"), 10**8)
"""Id column -> distance between two copies."""


def copy_rows(rows: str, target: Path, copies: range, options: str) -> None:
    """Write rows once for each copy, with shifted ids.

    Args:
        rows: SQL of the rows.
        target: file to make.
        copies: numbers of the copies.
        options: options of the engine's COPY.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(config={"preserve_insertion_order": False, "threads": 2}) as connection:
        columns = [str(name) for name, *_ in connection.execute(f"DESCRIBE FROM {rows}").fetchall()]
        shifted = ", ".join(
            f"CAST({name} AS BIGINT) + copy * {SHIFTED[name]} AS {name}" if name in SHIFTED else f'"{name}"'
            for name in columns
        )
        numbers = f"range({copies.start}, {copies.stop})"
        connection.execute(
            f"COPY (SELECT {shifted} FROM {rows}, {numbers} AS copies(copy)) TO '{target}' ({options})"
        )


def copy_meds(source: Path, out: Path, copies: int) -> None:
    """Copy a MEDS data set; every copy has shards of its own."""
    for shard in sorted((source / "data").rglob("*.parquet")):
        for copy in track(range(copies), f"Copying {shard.parent.name}"):
            target = out / "data" / shard.parent.name / f"{shard.stem}-{copy}.parquet"
            copy_rows(f"read_parquet('{shard}')", target, range(copy, copy + 1), "FORMAT parquet")
    splits = source / "metadata" / "subject_splits.parquet"
    copy_rows(f"read_parquet('{splits}')", out / "metadata" / splits.name, range(copies), "FORMAT parquet")


def copy_tables(source: Path, out: Path, copies: int) -> None:
    """Copy the CSV tables of MIMIC-IV that are read, as plain CSV."""
    for table in sorted(path for name in TABLES for path in source.rglob(f"{name}.csv*")):
        rows = f"read_csv('{table}', all_varchar = true, header = true, delim = ',', quote = '\"')"
        target = out / table.relative_to(source).with_name(table.name.removesuffix(".gz"))
        copy_rows(rows, target, range(copies), "HEADER")


def scan_meds(data: Path, memory_limit: str, columns: str) -> None:
    """Count the events of the mapped codes of a MEDS data set, and the values of some columns."""
    (data.parent / "scratch").mkdir(exist_ok=True)
    with Database(data.parent / "scratch", parse_size(memory_limit)) as database, progress_bar() as bar:
        shards = find_shards(data)
        resolved = resolve(database, shards, None, bar, MIMIC3)
        codes = ", ".join(f"({quoted(code)})" for code in resolved.measured)
        database.run(f"SELECT {columns} FROM shard JOIN (VALUES {codes}) AS item(code) USING (code)")


def scan_tables(data: Path, memory_limit: str, columns: Mapping[str, str]) -> None:
    """Count the events of the mapped items of MIMIC-IV's tables, and the values of some columns."""
    (data.parent / "scratch").mkdir(exist_ok=True)
    with Database(data.parent / "scratch", parse_size(memory_limit)) as database:
        open_tables(database, data, TABLES, "MIMIC-IV")
        codes = codes_of(shipped_meds_mapping("mimic4"), "mimic4.yaml")
        items = {itemid for code in codes for itemid in code.items}
        for table, selected in columns.items():
            chosen = ", ".join(map(str, sorted(items)))
            database.run(f"SELECT {selected} FROM {table} WHERE itemid IN ({chosen})")


COUNT = "count(*)"
READ = "count(*), max(subject_id), max(time), max(icustay_id), max(numeric_value), count(text_value)"
LAB = "count(*), max(subject_id), max(charttime), max(value), max(valuenum)"
EVENTS = {"chartevents": f"{LAB}, max(stay_id)", "labevents": LAB}
WORK: dict[str, dict[str, Callable[[Path, Path, str], object]]] = {
    "meds": {
        "count": lambda data, _, limit: scan_meds(data, limit, COUNT),
        "read": lambda data, _, limit: scan_meds(data, limit, READ),
        "prepare": lambda data, out, limit: prepare_meds(data, out, memory_limit=limit),
    },
    "mimic4": {
        "count": lambda data, _, limit: scan_tables(data, limit, dict.fromkeys(EVENTS, COUNT)),
        "read": lambda data, _, limit: scan_tables(data, limit, EVENTS),
        "prepare": lambda data, out, limit: prepare_mimic4(data, out, memory_limit=limit),
    },
}
"""Source -> what is measured -> function of the data set, the directory to make and the memory limit."""
COPY: dict[str, Callable[[Path, Path, int], None]] = {"meds": copy_meds, "mimic4": copy_tables}


def work(source: str, what: str, data: Path, out: Path, memory_limit: str) -> None:
    """Do one thing in this process, and print its seconds and its largest memory in bytes."""
    began = time.monotonic()
    WORK[source][what](data, out, memory_limit)
    seconds = time.monotonic() - began
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(seconds, int(status["VmHWM"].split()[0]) * 1024)


def measure(source: str, what: str, data: Path, out: Path, memory_limit: str) -> tuple[float, int]:
    """Do one thing in a process of its own; return its seconds, without imports, and its largest memory."""
    command = [sys.executable, __file__, "work", source, what, str(data), str(out), memory_limit]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    # Not before: on some file systems, files are made slowly just after others were deleted.
    shutil.rmtree(out, ignore_errors=True)
    seconds, memory = done.stdout.split()[-2:]
    return float(seconds), int(memory)


def compare(source: str, original: Path, scratch: Path, copies: list[int], memory_limit: str) -> None:
    """Print the time and memory of every work on every number of copies."""
    print(
        "copies", *(f"{what}: s, MB" for what in WORK[source]), "prepare / count", "prepare / read", sep="\t"
    )
    for number in copies:
        data = scratch / f"{source}-{number}x"
        if not data.exists():
            COPY[source](original, data, number)
        # The first reading fills the cache of the operating system, for all alike.
        measure(source, "read", data, scratch / "out", memory_limit)
        found = {what: measure(source, what, data, scratch / "out", memory_limit) for what in WORK[source]}
        cells = (f"{seconds:.2f}, {memory / 1e6:.0f}" for seconds, memory in found.values())
        ratios = (f"{found['prepare'][0] / found[scan][0]:.1f}" for scan in ("count", "read"))
        print(number, *cells, *ratios, sep="\t", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        work(sys.argv[2], sys.argv[3], Path(sys.argv[4]), Path(sys.argv[5]), sys.argv[6])
        sys.exit()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", choices=WORK)
    parser.add_argument("original", type=Path, help="the data set to copy")
    parser.add_argument("scratch", type=Path, help="folder for the copies, which stay there")
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--memory-limit", default="1GB")
    arguments = parser.parse_args()
    compare(
        arguments.source,
        arguments.original,
        arguments.scratch,
        arguments.copies,
        arguments.memory_limit,
    )
