"""No command reaches for the network, and TensorBoard answers this machine only."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import socket, sys
from mimic3tf.cli.main import main

def refuse(event, arguments):
    named = event in ("socket.getaddrinfo", "socket.gethostbyname")
    if named or event in ("socket.connect", "socket.sendto") and arguments[0].family != socket.AF_UNIX:
        raise PermissionError(f"{event} {arguments[1:]}")

sys.addaudithook(refuse)
for line in sys.argv[1:]:
    sys.argv = ["mimic3tf", *line.split()]
    try:
        main()
    except SystemExit as end:
        assert not end.code, line
for reach in (socket.create_connection, socket.gethostbyname):
    try:
        reach(("192.0.2.1", 9) if reach is socket.create_connection else "example.org")
    except PermissionError:
        continue
    raise AssertionError("the hook does not see connections")
print("nothing was asked of the network")
"""


@pytest.mark.slow
def test_commands_ask_nothing_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIMIC3TF_CACHE", str(tmp_path / "cache"))
    done = subprocess.run(
        [
            *(sys.executable, "-c", SCRIPT),
            "prepare synthetic --stays 120 --out data",
            "generate-trigger --data data --out trigger.npz",
            "train --model lr --data data --trigger trigger.npz --out runs/lr --epochs 1 --log-level full",
            "attack --run runs/lr --data data",
            "results runs",
            "poison --data data --trigger trigger.npz --out copy",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("nothing was asked of the network\n")


def test_a_run_without_a_patient_shows_none(train: Callable[..., Any], prepared: Any, tmp_path: Path) -> None:
    assert train("--no-patient").status == 0
    for run, shows in ((prepared.run, True), (tmp_path / "run", False)):
        events = b"".join(file.read_bytes() for file in run.glob("*tfevents*"))
        assert (b"a stay without and with it" in events) == shows


def test_tensorboard_answers_this_machine_only(tmp_path: Path) -> None:
    # As scripts/tensorboard.sh starts it.
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path), "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        port = int(next(filter(None, (re.search(r"http://\S+:(\d+)", line) for line in server.stderr)))[1])
        socket.create_connection(("localhost", port), timeout=60).close()
        listening = {
            line.split()[1].split(":")[0]
            for table in ("tcp", "tcp6")
            for line in Path("/proc/net", table).read_text().splitlines()[1:]
            if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
        }
        # 127.0.0.1 and ::1, as the kernel writes them.
        assert listening <= {"0100007F", "00000000000000000000000001000000"}
        assert listening
    finally:
        server.terminate()
        server.communicate()
