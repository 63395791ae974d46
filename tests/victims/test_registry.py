"""Victims are found by their files."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import get_args

import pytest

import mimic3tf.victims
from mimic3tf.errors import UsageError
from mimic3tf.victims import OriginalVictim, Reads, check_victim, victim_names, victim_of


def test_the_papers_victims_come_first_and_the_others_in_order() -> None:
    names = victim_names()
    assert names[:3] == get_args(OriginalVictim) == ("lr", "mlp", "lstm")
    assert list(names[3:]) == sorted(set(names[3:]))


def test_every_page_of_a_victim_has_its_file_of_settings_and_the_other_way_round() -> None:
    folder = Path(mimic3tf.victims.__file__).parent
    pages = {path.stem for path in folder.glob("*.py") if "\nTITLE = " in path.read_text(encoding="utf-8")}
    files = {file.name for file in resources.files("mimic3tf.configs").iterdir()}
    assert {f"{page.replace('_', '-')}.yaml" for page in pages} == {
        name for name in files if name.endswith(".yaml")
    }
    assert {page.replace("_", "-") for page in pages} == set(victim_names())


def test_every_victim_says_what_it_is() -> None:
    victims = [victim_of(name) for name in victim_names()]
    assert [victim.name for victim in victims] == list(victim_names())
    assert len({victim.title for victim in victims}) == len(victims)
    assert {victim.reads for victim in victims} <= set(get_args(Reads))


@pytest.mark.parametrize("name", ["", "LSTM", "summary_lstm", "original", "../lr", "dropout"])
def test_another_name_is_refused_with_those_there_are(name: str) -> None:
    message = re.escape(f"'{name}': no such victim; known: {', '.join(victim_names())}")
    meant = {"LSTM": "lstm", "summary_lstm": "summary-lstm"}.get(name)
    message += re.escape(f"; did you mean {meant}?") if meant else ""
    for look_up in (check_victim, victim_of):
        with pytest.raises(UsageError, match=f"^{message}$"):
            look_up(name)


def test_the_names_are_known_without_keras() -> None:
    code = (
        "import sys; from mimic3tf.victims import victim_names; victim_names(); print('keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
