"""The installed package has all files of the repository that it needs, and the scripts work."""

from __future__ import annotations

import configparser
import fnmatch
import itertools
import os
import re
import shutil
import subprocess
from importlib import import_module, metadata, resources
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

import mimic3tf

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.sh"))


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_every_folder_of_code_is_installed(setup: configparser.ConfigParser) -> None:
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "mimic3tf").rglob("*.py")}
    packages = {".".join(folder.parts) for folder in folders}
    assert set(lines(setup["options"]["packages"])) == packages | {"mimic3tf.configs"}


def test_every_package_is_a_package_and_not_a_namespace() -> None:
    folders = {path.parent for path in (ROOT / "mimic3tf").rglob("*.py")} | {ROOT / "configs"}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_every_config_is_package_data(setup: configparser.ConfigParser) -> None:
    patterns = lines(setup["options.package_data"]["mimic3tf.configs"])
    configs = [path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs").rglob("*.yaml")]
    assert len(configs) >= 6
    # A star in these patterns does not match a slash.
    missed = [
        config
        for config in configs
        if not any(
            fnmatch.fnmatch(config, pattern) and config.count("/") == pattern.count("/")
            for pattern in patterns
        )
    ]
    assert missed == []


@pytest.mark.parametrize("name", ["lr.yaml", "mlp.yaml", "lstm.yaml", "original/lstm.yaml"])
def test_configs_are_found_from_the_installed_package(name: str) -> None:
    installed = resources.files("mimic3tf.configs").joinpath(name)
    assert installed.read_text(encoding="utf-8") == (ROOT / "configs" / name).read_text(encoding="utf-8")


def test_types_are_installed_too(setup: configparser.ConfigParser) -> None:
    assert "py.typed" in lines(setup["options.package_data"]["mimic3tf"])
    assert resources.files("mimic3tf").joinpath("py.typed").is_file()


def test_the_version_is_the_installed_one(setup: configparser.ConfigParser) -> None:
    assert setup["metadata"]["version"] == "attr: mimic3tf.__version__"
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", mimic3tf.__version__)
    assert metadata.version("mimic3tf") == mimic3tf.__version__


def test_the_licence_named_is_there(setup: configparser.ConfigParser) -> None:
    text = (ROOT / setup["metadata"]["license_files"]).read_text(encoding="utf-8")
    assert setup["metadata"]["license"] == "MIT"
    assert "Permission is hereby granted, free of charge" in text


def test_the_console_script_leads_to_the_command_line(setup: configparser.ConfigParser) -> None:
    (script,) = lines(setup["options.entry_points"]["console_scripts"])
    name, target = script.split(" = ")
    module, function = target.split(":")
    assert name == "mimic3tf"
    assert callable(getattr(import_module(module), function))


def test_there_are_scripts_for_every_command_of_the_original() -> None:
    trained = {f"train_{victim}.sh" for victim in ("lr", "mlp", "lstm")}
    attacked = {f"attack_{victim}.sh" for victim in ("lr", "mlp", "lstm")}
    assert trained | attacked | {"generate_trigger.sh"} <= set(SCRIPTS)


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_tells_what_it_does_before_it_works(script: str, option: str, tmp_path: Path) -> None:
    path = ROOT / "scripts" / script
    comment = itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines()[1:])
    # With these variables, the script cannot make an environment.
    nothing = {"PATH": os.environ["PATH"], "VENV": str(tmp_path / "none"), "PYTHON": "false"}
    told = subprocess.run(
        ["bash", path, option], cwd=tmp_path, env=nothing, check=True, capture_output=True, text=True
    )
    assert told.stdout.splitlines() == [line.removeprefix("#").removeprefix(" ") for line in comment]
    assert len(told.stdout) > 40
    assert told.stderr == ""
    assert list(tmp_path.iterdir()) == []


NEEDY = ("attack_task.sh", "audit_table.sh", "eicu_tasks.sh", "made_from.sh", "sweep_paper.sh")


@pytest.mark.parametrize("script", NEEDY)
def test_a_script_without_its_arguments_prints_its_usage(script: str, tmp_path: Path) -> None:
    path = ROOT / "scripts" / script
    told = subprocess.run(["bash", path], cwd=tmp_path, capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (2, "")
    first, *usage = told.stderr.splitlines()
    assert first.startswith("error: needs ")
    assert f"bash scripts/{script}" in "".join(usage)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "sweep", "out"),
    [({}, "paper", "runs/sweeps/paper"), ({"SWEEP": "my/own.yaml"}, "my/own.yaml", "runs/sweeps/own")],
)
def test_a_sweep_takes_any_data(given: dict[str, str], sweep: str, out: str, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    # `install.sh` writes this file when it has installed everything that `setup.cfg` requires.
    (venv / "installed.cfg").write_text("\n" + (ROOT / "setup.cfg").read_text())
    (venv / "bin" / "mimic3tf").write_text('#!/bin/sh\necho "$@"\n')
    (venv / "bin" / "mimic3tf").chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "VENV": str(venv), "DATA": "my/data", **given}
    script = ROOT / "scripts" / "sweep_paper.sh"
    told = subprocess.run(
        ["bash", script], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert told.stdout.splitlines() == [
        f"sweep --config {sweep} --data my/data --out {out} --resume",
        f"report --results {out} --out {out}/report",
    ]


@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_can_parse(script: str) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash here")
    check = subprocess.run([bash, "-n", ROOT / "scripts" / script], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


TOOLS = ("ruff", "codespell", "shellcheck", "mypy", "pytest")
STEPS = ("install.sh", "check_packages.sh", "docs.sh")


@pytest.mark.parametrize("failing", [None, *TOOLS, *STEPS])
def test_a_check_that_fails_fails_the_whole_and_no_test_is_run(failing: str | None, tmp_path: Path) -> None:
    scripts, programs = tmp_path / "scripts", tmp_path / "venv" / "bin"
    for folder in (scripts, programs, tmp_path / ".ci"):
        folder.mkdir(parents=True)
    for name in ("test.sh", "help.sh"):
        shutil.copy(ROOT / "scripts" / name, scripts)
    for path in (*(scripts / name for name in STEPS), *(programs / name for name in TOOLS)):
        path.write_text(f"#!/bin/sh\necho ran {path.name}\nexit {3 if path.name == failing else 0}\n")
        path.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "VENV": str(tmp_path / "venv")}
    told = subprocess.run(
        ["bash", scripts / "test.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert told.returncode == (3 if failing else 0)
    ran = {line.removeprefix("ran ") for line in told.stdout.splitlines()}
    assert ("pytest" in ran) == (failing in (None, "pytest"))
    if failing is None:
        assert ran == {*TOOLS, *STEPS}


def test_a_library_has_one_thread_in_tests() -> None:
    """`conftest.py` says so before any library is imported."""
    import_module("scipy.linalg")
    import_module("sklearn.ensemble")
    pools = threadpool_info()
    assert {pool["user_api"] for pool in pools} == {"blas", "openmp"}
    assert {pool["num_threads"] for pool in pools} == {1}
