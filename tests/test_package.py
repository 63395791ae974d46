"""What is installed is what is in the repository."""

from __future__ import annotations

import configparser
import fnmatch
import re
import shutil
import subprocess
from importlib import import_module, metadata, resources
from pathlib import Path

import pytest

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
    # A star does not cross folders there.
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


@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_can_parse(script: str) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash here")
    check = subprocess.run([bash, "-n", ROOT / "scripts" / script], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr
