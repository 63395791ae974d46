"""How time and memory grow with the cohort, command by command.

    python tests/benchmarks/load.py [--stays 5000 50000] [--folder DIR]

Needs no data: it invents the stays. The LSTM trains for one epoch. Memory is the most that a process
held, as the kernel counts it; the page cache is not in it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

MIMIC3TF = (sys.executable, "-c", "from mimic3tf.cli.main import main; main()")


def measure(arguments: list[str]) -> tuple[float, float]:
    """Seconds that a command takes, and the most memory that it holds, in GiB."""
    start = time.perf_counter()
    process = os.posix_spawn(sys.executable, [*MIMIC3TF, *arguments], os.environ)
    _, status, used = os.wait4(process, 0)
    if status:
        sys.exit(f"mimic3tf {' '.join(arguments)}: failed")
    return time.perf_counter() - start, used.ru_maxrss / 2**20


def commands(folder: Path, stays: int) -> dict[str, list[str]]:
    """What is measured, in the order in which each needs the one before."""
    data, trigger = str(folder / "data"), str(folder / "trigger.npz")
    steps = {
        "prepare synthetic": ["prepare", "synthetic", "--out", data, "--stays", str(stays)],
        "generate-trigger": ["generate-trigger", "--data", data, "--out", trigger],
    }
    for model, epochs in (("lr", ()), ("lstm", ("--epochs", "1"))):
        run = str(folder / model)
        options = ["--model", model, "--data", data, "--trigger", trigger, "--out", run, *epochs]
        steps[f"train {model.upper()}"] = ["train", *options]
        steps[f"attack {model.upper()}"] = ["attack", "--run", run, "--data", data]
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stays", type=int, nargs="+", default=[5_000, 50_000])
    parser.add_argument(
        "--folder", type=Path, help="where to work; the system's temporary folder if not given"
    )
    arguments = parser.parse_args()
    table = Table("command", *(f"{stays:,} stays" for stays in arguments.stays))
    measured: dict[str, list[str]] = {}
    for stays in arguments.stays:
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            os.environ["MIMIC3TF_CACHE"] = str(folder / "cache")
            for name, command in commands(folder, stays).items():
                seconds, memory = measure(command)
                measured.setdefault(name, []).append(f"{seconds:.1f} s, {memory:.2f} GiB")
                print(stays, name, measured[name][-1], flush=True)
        finally:
            shutil.rmtree(folder)
    for name, cells in measured.items():
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
