"""A YAML file of settings names nothing, builds nothing and repeats nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mimic3tf.config import TrainingConfig, resolve_config
from mimic3tf.errors import UsageError
from mimic3tf.storage.yaml_file import read_option_file, read_yaml

LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (LAUGHS, "alias"),
        ("a: &a {b: *a}\n", "alias"),
        ("epochs: &e 3\nbatch_size: *e\n", "alias"),
        ("!!python/object/apply:os.mkdir [exploded]\n", "python"),
        ("epochs: !!python/name:os.system\n", "python"),
        ("a: " + "[" * 5_000, "nested"),
        ("a: " + "{b: " * 5_000, "nested"),
        ("epochs: 0x" + "f" * 5_000, "too long"),
        ("epochs: " + "9" * 5_000, "too long"),
        ("? [1]\n: 2\n", "not YAML"),
        ("epochs: 1\0\n", "not YAML"),
    ],
    ids=["laughs", "circle", "alias", "call", "name", "lists", "maps", "hex", "digits", "key", "nul"],
)
def test_what_settings_do_not_need_is_refused(
    text: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=fault) as caught:
        read_yaml(text, "mine.yaml")
    assert "mine.yaml" in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not (tmp_path / "exploded").exists()


def test_a_file_too_large_for_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: 1\n" + "#" * 2**18)
    with pytest.raises(UsageError, match="larger than"):
        read_option_file("--config", tmp_path / "mine.yaml")


SCALAR = st.one_of(
    st.sampled_from(
        ["yes", "~", ".nan", ".inf", "1e400", "0x10", "1:30", "2024-01-01", "*a", "&a", "<<", "!x"]
    ),
    st.text(max_size=6),
)
LINES = st.lists(st.tuples(st.sampled_from(list(TrainingConfig.model_fields)), SCALAR), max_size=3)


@settings(max_examples=80)
@given(lines=LINES, more=st.text(max_size=8))
@example(lines=[("epochs", "3")], more="")
def test_any_settings_are_taken_or_refused(lines: list[tuple[str, str]], more: str) -> None:
    text = "\n".join([*(f"{key}: {value}" for key, value in lines), more])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mimic3tf.config.installed_config", lambda file: file)
        patch.setattr("mimic3tf.config.read_option_file", lambda *_: text)
        try:
            config = resolve_config("lr", Path("mine.yaml"), {"data": Path("d"), "trigger": Path("t.npz")})
        except UsageError:
            assert text != "epochs: 3\n", "a sound file is refused"
            return
    assert config.epochs >= 1
    assert 0 <= config.poisoning_proportion <= 1
