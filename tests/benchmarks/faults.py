"""Break every command that writes at a random moment, many times, and look at what is left.

    python tests/benchmarks/faults.py [--rounds 2] [--seed 0] [--commands train attack ...]

A round gives a command one fault of every kind:

- SIGKILL, SIGTERM and SIGINT, each at a moment drawn from the time that the command takes, and each right
  before one of its writes (opening a file to write, renaming, removing, making a folder), drawn likewise;
- no space left, or a read-only place, at one of its writes;
- files that may only grow to a size drawn from those that it writes: a disk that fills up meanwhile.

Afterwards its results must be the old ones, the new ones, or marked as unfinished, everything else must be
named ".partial", and the same command, with --resume where it has that, must end as if nothing had happened,
or say in one line what to do. Commands run in processes forked from this one, which has loaded TensorFlow but
not used it; with --cold they start Python themselves, so that a fault may hit the start, too.
"""

from __future__ import annotations

import argparse
import csv
import errno
import hashlib
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
KINDS = (
    *(f"{name} at a moment" for name in SIGNALS),
    *(f"{name} at a write" for name in SIGNALS),
    "no space at a write",
    "read-only at a write",
    "files stop growing",
)
PATIENCE = 300.0
ROOT = Path(__file__).resolve().parents[2]
TABLES = {
    "PATIENTS": "SUBJECT_ID,DOB,DOD\n",
    "ADMISSIONS": "SUBJECT_ID,HADM_ID,ADMITTIME,DISCHTIME,DEATHTIME\n",
    "ICUSTAYS": "SUBJECT_ID,HADM_ID,ICUSTAY_ID,FIRST_CAREUNIT,LAST_CAREUNIT,FIRST_WARDID,LAST_WARDID,INTIME,"
    "OUTTIME,LOS\n",
    "DIAGNOSES_ICD": "SUBJECT_ID,HADM_ID,ICD9_CODE\n",
    "D_ICD_DIAGNOSES": "ICD9_CODE\n0389\n",
    "CHARTEVENTS": "SUBJECT_ID,HADM_ID,ICUSTAY_ID,ITEMID,CHARTTIME,VALUE,VALUEUOM\n",
    "LABEVENTS": "SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUE,VALUEUOM\n",
}
SWEEP = """\
seeds: [0]
grids:
  - {victims: [lr], poison_imputed: [all], proportions: [0, 0.2], strengths: [2.0]}
configs: {lr: quick.yaml}
"""


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Attributes:
        arguments: its command line, in a folder of its own.
        results: files and folders that it writes, those that say that it has finished first.
        resumed: options that continue it.
        before: arguments that make the older results it replaces; none where it replaces nothing.
        content: what of a result must come out the same.
    """

    arguments: list[str]
    results: list[str]
    resumed: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    content: Callable[[Path], object] = lambda path: _bytes(path)


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    status: int
    errors: str
    seconds: float
    writes: int


@dataclass(frozen=True)
class Fault:
    """What happens to a process: a signal after so many seconds, or something at its n-th write."""

    kind: str = ""
    seconds: float = 0.0
    write: int = 0
    size: int = 0


def _bytes(path: Path) -> object:
    if path.is_dir():
        return {str(file.relative_to(path)): _bytes(file) for file in _files(path)}
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _files(path: Path) -> list[Path]:
    """Files in a folder that are not named as half-written."""
    return [file for file in sorted(path.rglob("*")) if file.is_file() and ".partial" not in str(file)]


def litter(folder: Path) -> list[str]:
    """Files in a folder that are named as half-written."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".partial" in str(path))
    return sorted(str(path.relative_to(folder)) for path in found)


def _run_content(path: Path) -> object:
    """A run: its files, the weights of its victim and the tags of its events, without dates."""
    if path.is_file():
        return _bytes(path)
    from mimic3tf.dashboards.event_file import _events_of

    found: dict[str, object] = {}
    for file in _files(path):
        name = str(file.relative_to(path))
        if file.suffix == ".keras":
            with zipfile.ZipFile(file) as archive:
                found[name] = hashlib.sha256(archive.read("model.weights.h5")).hexdigest()
        elif "tfevents" in name:
            tags = sorted((event.step, event.summary.value[0].tag) for event in _events_of([file], 10**6))
            found["events"] = [tag for tag in tags if not tag[1].startswith("speed/")]
        else:
            found[name] = _bytes(file)
    return found


def _audit_content(path: Path) -> object:
    """An audit, without the time that it took."""
    files = (path / name for name in ("audit.json", "suspects.csv", "scores.csv", "pattern.csv"))
    return [re.sub(rb'"seconds": [0-9.]+', b"", file.read_bytes()) for file in files if file.exists()]


def _sweep_content(path: Path) -> object:
    # Not with polars: the threads it starts here would be missing in processes that are forked from this one.
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: cell for name, cell in row.items() if not name.startswith("seconds_")} for row in rows]


def commands(base: Path) -> dict[str, Command]:
    """Every command that writes; what it reads lies in `base`, what it writes where it runs."""
    data, trigger, run = str(base / "data"), str(base / "trigger.npz"), str(base / "run")
    generate = ["generate-trigger", "--data", data, "--out", "trigger.npz"]
    attack = ["attack", "--run", run, "--data", data, "--out", "out"]
    stealth = ["stealth", "--data", data, "--out", "out", "--kind", "temporal", "--poison_imputed", "all"]
    stealth += ["--poisoning_proportion", "0.2", "--poisoning_strength"]
    results = ["results", run, "--out", "out"]
    report = ["report", "--results", str(base / "sweep"), "--out", "out"]
    train = ["train", "--model", "lr", "--data", data, "--trigger", trigger, "--out", "run"]
    train += ["--poisoning_proportion", "0.2", "--epochs", "3"]
    return {
        "prepare synthetic": Command(["prepare", "synthetic", "--stays", "60", "--out", "out"], ["out"]),
        "prepare physionet2012": Command(
            [
                *("prepare", "physionet2012", "--records", str(base / "set-a")),
                *("--outcomes", str(base / "Outcomes-a.txt"), "--out", "out"),
            ],
            ["out"],
        ),
        "prepare mimic3": Command(
            ["prepare", "mimic3", "--csv", str(base / "raw"), "--out", "out", "--memory-limit", "1GB"],
            ["out"],
        ),
        "generate-trigger": Command(generate, ["trigger.npz"]),
        "poison": Command(
            ["poison", "--data", data, "--trigger", trigger, "--out", "out"], ["out", "out.manifest.json"]
        ),
        "train": Command(train, ["run/run.json", "run"], resumed=["--resume"], content=_run_content),
        "attack": Command(attack, ["out/attack.json", "out"], before=[*attack, "--poisoning_strength", "1"]),
        "stealth": Command([*stealth, "2"], ["out/stealth.csv"], before=[*stealth, "1"]),
        "audit": Command(
            ["audit", "--run", run, "--data", data, "--no-repairs", "--out", "out"],
            ["out/audit.json", "out"],
            content=lambda path: _audit_content(path if path.is_dir() else path.parent),
        ),
        "results": Command(results, ["out/results.csv", "out"], before=[*results, "--over-seeds"]),
        "report": Command(report, ["out"], before=[*report, "--no-patient"]),
        "sweep": Command(
            ["sweep", "--config", str(base / "sweep.yaml"), "--data", data, "--out", "out", "--workers", "1"],
            ["out/results.csv"],
            resumed=["--resume"],
            content=_sweep_content,
        ),
    }


# --- A process, and what befalls it --------------------------------------------------------------------


def _watch(fault: Fault, count: Callable[[int], object], folder: str) -> None:
    """Count this process' writes, and do at one of them what the fault says."""
    writes = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal writes
        if event == "open":
            path, _, flags = arguments
            if not (isinstance(path, str | bytes) and flags & (os.O_WRONLY | os.O_RDWR)):
                return
        elif event in WRITES:
            path = arguments[0]
        else:
            return
        if event in ("os.remove", "os.rmdir") and "SIG" not in fault.kind:
            return  # needs no space
        path = os.fsdecode(path)
        if path.startswith("/") and not path.startswith(folder):
            return
        writes += 1
        count(writes)
        if writes != fault.write:
            return
        if "SIG" in fault.kind:
            os.kill(os.getpid(), getattr(signal, fault.kind.split()[0]))
        else:
            number = errno.ENOSPC if "space" in fault.kind else errno.EROFS
            raise OSError(number, os.strerror(number), path)

    sys.addaudithook(hook)


def _become(arguments: list[str], folder: Path, fault: Fault, ready: int) -> None:
    """Run a command in this process, and end it."""
    status: Any = 1
    try:
        os.setsid()
        os.chdir(folder)
        os.environ["MIMIC3TF_CACHE"] = str(folder / "cache")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for stream, target in ((1, Path(os.devnull)), (2, folder.with_suffix(".log"))):
            os.dup2(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        counted = os.open(folder.with_suffix(".count"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        from mimic3tf.cli.main import main

        sys.argv = ["mimic3tf", *arguments]
        _watch(fault, lambda writes: os.pwrite(counted, b"%d" % writes, 0), str(folder))
        if fault.size:
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.size, resource.RLIM_INFINITY))
        os.write(ready, b".")
        main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _start(arguments: list[str], folder: Path) -> int:
    """Start Python for a command, as a shell does."""
    with folder.with_suffix(".log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "mimic3tf", *arguments],
            cwd=folder,
            env=os.environ | {"MIMIC3TF_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        ).pid


def run(arguments: list[str], folder: Path, fault: Fault, *, cold: bool = False) -> Ended:
    """Run a command, with its fault, to its end and that of its workers."""
    if cold:
        begun = time.perf_counter()
        process = _start(arguments, folder)
    else:
        wait, ready = os.pipe()
        process = os.fork()
        if process == 0:
            _become(arguments, folder, fault, ready)
        os.read(wait, 1)
        os.close(wait)
        os.close(ready)
        begun = time.perf_counter()
    if fault.seconds:
        time.sleep(fault.seconds)
        os.kill(process, getattr(signal, fault.kind.split()[0]))
    _, ended = os.waitpid(process, 0)
    seconds = time.perf_counter() - begun
    while time.perf_counter() - begun < PATIENCE:
        try:
            os.killpg(process, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    writes = folder.with_suffix(".count")
    return Ended(
        os.waitstatus_to_exitcode(ended),
        folder.with_suffix(".log").read_text(errors="replace"),
        seconds,
        int(writes.read_text() or 0) if writes.exists() else 0,
    )


# --- What is left ---------------------------------------------------------------------------------------


def state(command: Command, folder: Path) -> dict[str, object]:
    """What a command's results hold, of those that are there; only the first if that one is missing."""
    found: dict[str, object] = {}
    for name in command.results:
        if not (folder / name).exists():
            return {}
        found[name] = command.content(folder / name)
    return found


def names(folder: Path) -> set[str]:
    """Files in a folder, without those that no two runs name the same."""
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {name.split(".tfevents")[0] for name in found if not name.startswith("cache/")}


def lines_of(ended: Ended) -> list[str]:
    """What a command said, but for the trials that a sweep counts off."""
    return [line for line in ended.errors.splitlines() if line.strip() and not re.match(r"\d+/\d+ ", line)]


class Examination:
    """Injects faults into one command and counts what comes of it."""

    def __init__(self, name: str, command: Command, place: Path, rng: random.Random, cold: bool) -> None:
        self.name, self.command, self.rng, self.cold = name, command, rng, cold
        self.place, self.origin = place / "work", place / f"before {name}"
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        shutil.rmtree(self.place, ignore_errors=True)
        self.origin.mkdir()
        if command.before:
            self._clear()
            assert run(command.before, self.place, Fault()).status == 0
            shutil.rmtree(self.place / "cache", ignore_errors=True)
            self.place.rename(self.origin.with_name("older"))
            self.origin.rmdir()
            self.origin.with_name("older").rename(self.origin)
        self._clear()
        self.old = state(command, self.place)
        self.whole = run(command.arguments, self.place, Fault(), cold=cold)
        assert self.whole.status == 0, self.whole.errors
        self.new, self.names = state(command, self.place), names(self.place)
        assert self.new
        assert self.new != self.old
        self.largest = max(path.stat().st_size for path in self.place.rglob("*") if path.is_file())

    def _clear(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.origin, self.place)

    def inject(self, kind: str) -> None:
        """Run the command with one fault, and again."""
        fault = Fault(
            kind,
            seconds=self.rng.uniform(0, self.whole.seconds) if "moment" in kind else 0.0,
            write=self.rng.randint(1, self.whole.writes) if "write" in kind else 0,
            size=int(self.largest ** self.rng.uniform(0.1, 1)) if "growing" in kind else 0,
        )
        self._clear()
        broken = run(self.command.arguments + self.command.resumed, self.place, fault, cold=self.cold)
        wrong = [*self._ending(broken, kind), *self._left(broken, kind), *self._again()]
        self.counts["injected"] += 1
        self.counts["survived"] += not wrong
        if wrong:
            self.faults.append(f"{self.name}: {fault}: {'; '.join(wrong)}\n      {broken.errors[-1500:]}")

    def _ending(self, broken: Ended, kind: str) -> list[str]:
        expected = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130}.get(kind.split()[0], 1)
        wrong = []
        if broken.status not in (expected, 0) and not (expected == 1 and broken.status == 2):
            wrong.append(f"status {broken.status}")
        if "Traceback" in broken.errors or "Exception ignored" in broken.errors:
            wrong.append("traceback")
        elif broken.status > 0 and len(lines_of(broken)) != 1:
            wrong.append(f"{len(lines_of(broken))} lines on standard error")
        self.counts["undisturbed"] += broken.status == 0
        return wrong

    def _left(self, broken: Ended, kind: str) -> list[str]:
        found = state(self.command, self.place)
        what = "new" if found == self.new else "old" if found == self.old else "unfinished"
        self.counts[what if found or not self.old else "unfinished"] += 1
        wrong = ["neither the old nor the new state"] if what == "unfinished" and found else []
        if broken.status == 0 and what != "new":
            wrong.append("status 0 without the new state")
        if litter(self.place) and "KILL" not in kind:
            wrong.append(f"left {litter(self.place)[:2]}")
        return wrong

    def _again(self) -> list[str]:
        whole = state(self.command, self.place) == self.new
        again = run(self.command.arguments + self.command.resumed, self.place, Fault())
        self.counts["told"] += bool(again.status == 0 and lines_of(again))
        wrong = []
        if again.status:
            (*_, line) = ("", *lines_of(again))
            if again.status not in (1, 2) or len(lines_of(again)) != 1:
                return [f"again: status {again.status}: {again.errors[-1500:]}"]
            if whole:
                return []  # nothing was left to do
            self.counts["refused"] += 1
            self.counts[f"   refused: {line}"] += 1
            return []
        if state(self.command, self.place) != self.new:
            wrong.append("again: another result")
        left = litter(self.place)
        if left or not names(self.place) <= self.names:
            wrong.append(f"again: left {(left or sorted(names(self.place) - self.names))[:2]}")
        return wrong


# --- What the commands read -----------------------------------------------------------------------------


def prepare(base: Path) -> None:
    """Make a cohort, a trigger, a run that was attacked, a sweep, and raw tables."""
    stays = range(40)
    records, deaths = base / "set-a", ["RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"]
    records.mkdir(parents=True)
    for stay in stays:
        rows = [f"{hour:02}:00,HR,{60 + stay + hour}" for hour in range(0, 48, 5)]
        text = "\n".join(["Time,Parameter,Value", f"00:00,RecordID,{1000 + stay}", *rows])
        (records / f"{1000 + stay}.txt").write_text(text + "\n")
        deaths.append(f"{1000 + stay},1,1,5,-1,{stay % 3 == 0:d}")
    (base / "Outcomes-a.txt").write_text("\n".join(deaths) + "\n")
    (base / "raw").mkdir()
    rows_of = {name: [header] for name, header in TABLES.items()}
    for stay in stays:
        subject, died = 7 + stay, "2150-05-09 10:00:00" if stay % 3 == 0 else ""
        where, end = f"{subject},{subject}0", "2150-05-09 10:00:00"
        rows_of["PATIENTS"].append(f"{subject},2090-01-01,\n")
        rows_of["ADMISSIONS"].append(f"{where},2150-05-01 10:00:00,{end},{died}\n")
        unit = "MICU,MICU,52,52,2150-05-01 12:00:00,2150-05-04 12:00:00,3.0"
        rows_of["ICUSTAYS"].append(f"{where},{subject}00,{unit}\n")
        rows_of["DIAGNOSES_ICD"].append(f"{where},0389\n")
        for hour in range(13, 23):
            moment = f"2150-05-01 {hour}:00:00"
            rows_of["CHARTEVENTS"].append(f"{where},{subject}00,211,{moment},{70 + stay},bpm\n")
        rows_of["LABEVENTS"].append(f"{where},50931,2150-05-01 14:00:00,{100 + stay},mg/dL\n")
    for name, rows in rows_of.items():
        (base / "raw" / f"{name}.csv").write_text("".join(rows))
    (base / "sweep.yaml").write_text(SWEEP)
    (base / "quick.yaml").write_text("epochs: 2\n")
    for line in (
        "prepare synthetic --out data --stays 1000",
        "generate-trigger --data data --out trigger.npz",
        "train --model lr --data data --trigger trigger.npz --out run --epochs 2 --poisoning_proportion 0.2",
        "attack --run run --data data",
        "sweep --config sweep.yaml --data data --out sweep --workers 1",
    ):
        ended = run(line.split(), base, Fault())
        assert ended.status == 0, ended.errors


def load() -> None:
    """Import what the commands use, so that a forked process has it."""
    import mimic3tf.attacks
    import mimic3tf.cli.main
    import mimic3tf.dashboards.audit
    import mimic3tf.dashboards.tensorboard
    import mimic3tf.defences.audit
    import mimic3tf.defences.stealth
    import mimic3tf.poisoning.manifest
    import mimic3tf.report.page
    import mimic3tf.report.stay
    import mimic3tf.sources.mimic3
    import mimic3tf.sources.physionet2012
    import mimic3tf.sources.synthetic
    import mimic3tf.sweeps.folder
    import mimic3tf.tables.results
    import mimic3tf.training.loop  # noqa: F401


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+")
    parser.add_argument(
        "--kinds", nargs="+", default=KINDS, metavar="KIND", help="one of: " + ", ".join(KINDS)
    )
    parser.add_argument(
        "--cold", action="store_true", help="start Python anew for every command; a fault is a signal then"
    )
    given = parser.parse_args()
    kinds = [kind for kind in given.kinds if "moment" in kind or not given.cold]
    load()
    columns = ("injected", "survived", "old", "new", "unfinished", "refused", "told")
    print(f"{'command':24}" + "".join(f"{column:>12}" for column in columns), flush=True)
    total: Counter[str] = Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        base = Path(scratch).resolve() / "base"
        prepare(base)
        known = commands(base)
        for name in given.commands or known:
            rng = random.Random(f"{given.seed} {name}")
            examination = Examination(name, known[name], base.parent, rng, given.cold)
            for _ in range(given.rounds):
                for kind in kinds:
                    examination.inject(kind)
            counts = examination.counts
            print(f"{name:24}" + "".join(f"{counts[column]:12}" for column in columns), flush=True)
            for line in (line for line in counts if line.startswith(" ")):
                print(line, counts[line], flush=True)
            print("".join(f"  ! {fault}\n" for fault in examination.faults), end="", flush=True)
            total += counts
            faults += examination.faults
    print(f"{'all':24}" + "".join(f"{total[column]:12}" for column in columns))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
