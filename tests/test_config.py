from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import ValidationError

from mimic3tf.config import TrainingConfig, default_config, resolve_config
from mimic3tf.data.grid import MOST_BINS, bin_count
from mimic3tf.errors import UsageError
from mimic3tf.victims import OriginalVictim, victim_names, victim_of

VICTIMS = victim_names()
ORIGINAL: tuple[OriginalVictim, ...] = get_args(OriginalVictim)
CONFIGS = Path(__file__).parents[1] / "configs"
GIVEN: dict[str, Any] = {"data": Path("data"), "trigger": Path("trigger.npz")}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.yaml"


def _message(model: str, path: Path | None, options: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        resolve_config(model, path, GIVEN | options)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_status == 2
    return message


@pytest.mark.parametrize("model", VICTIMS)
def test_the_tuned_defaults_are_complete(model: str) -> None:
    config = resolve_config(model, None, GIVEN)
    assert config.model == model
    assert (config.data, config.trigger) == (Path("data"), Path("trigger.npz"))
    assert (config.poisoning_proportion, config.poisoning_strength) == (0.05, 2.0)
    assert (config.poison_imputed, config.selection, config.precision) == ("notimputed", "auroc", "auto")


@pytest.mark.parametrize("model", VICTIMS)
def test_a_file_overrides_the_defaults_and_options_override_the_file(model: str, file: Path) -> None:
    defaults = resolve_config(model, None, GIVEN)
    file.write_text("epochs: 7\nbatch_size: 11\n")
    config = resolve_config(model, file, GIVEN | {"epochs": 3})
    assert (config.epochs, config.batch_size) == (3, 11)
    unchanged = set(TrainingConfig.model_fields) - {"epochs", "batch_size"}
    assert {name: getattr(config, name) for name in unchanged} == {
        name: getattr(defaults, name) for name in unchanged
    }


def test_an_option_that_was_not_given_overrides_nothing(file: Path) -> None:
    file.write_text("epochs: 7\nnormalizer: means.json\n")
    config = resolve_config("lstm", file, GIVEN | {"epochs": None, "normalizer": None})
    assert config.epochs == 7
    assert config.normalizer == Path("means.json")


def test_zero_is_a_given_option(file: Path) -> None:
    file.write_text("poisoning_proportion: 0.3\nseed: 5\n")
    config = resolve_config("lr", file, GIVEN | {"poisoning_proportion": 0.0, "seed": 0})
    assert (config.poisoning_proportion, config.seed) == (0.0, 0)


def test_an_option_mends_a_bad_value_of_the_file(file: Path) -> None:
    file.write_text("epochs: 0\n")
    assert resolve_config("lr", file, GIVEN | {"epochs": 2}).epochs == 2


def test_data_and_trigger_may_come_from_the_file(file: Path) -> None:
    file.write_text("data: cohort\ntrigger: pattern.npz\nmodel: lr\n")
    config = resolve_config("lr", file, {})
    assert (config.data, config.trigger) == (Path("cohort"), Path("pattern.npz"))


def test_a_number_in_scientific_notation_needs_no_point(file: Path) -> None:
    """YAML 1.1 reads 1e-4 as text, but users mean a number."""
    file.write_text("learning_rate: 1e-4\n")
    assert resolve_config("lr", file, GIVEN).learning_rate == 1e-4


@pytest.mark.parametrize("model", ORIGINAL)
def test_the_original_settings_hold_for_their_victim(model: OriginalVictim) -> None:
    config = resolve_config(model, CONFIGS / "original" / f"{model}.yaml", GIVEN)
    assert config.selection == "original"
    assert config.epochs == config.patience == (100 if model == "lstm" else 50)
    assert config.class_weights == ([0.3, 1.0] if model == "lstm" else [0.5, 1.0])
    assert (config.batch_size, config.learning_rate, config.l2) == (64, 1e-4, 1e-2)


@pytest.mark.parametrize("path", sorted((CONFIGS / "tuned").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_settings_for_a_clean_comparison_hold_for_their_victim(path: Path) -> None:
    model = path.stem
    config = resolve_config(model, path, GIVEN)
    assert (config.model, config.selection) == (model, "auroc")
    assert config.clip is not None


def test_a_file_or_an_option_asks_for_the_same_bits(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("deterministic: true\n", encoding="utf-8")
    assert not resolve_config("lr", None, GIVEN).deterministic
    assert resolve_config("lr", file, GIVEN).deterministic
    assert resolve_config("lr", None, GIVEN | {"deterministic": True}).deterministic


def test_every_config_of_the_project_belongs_to_a_victim() -> None:
    for folder, models in ((CONFIGS, VICTIMS), (CONFIGS / "original", ORIGINAL)):
        assert {path.name for path in folder.glob("*.yaml")} == {f"{model}.yaml" for model in models}
    for model in VICTIMS:
        assert default_config(model) == (CONFIGS / f"{model}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "line", "needles"),
    [
        ("epoch: 4\n", 1, ["unknown key 'epoch'", "known keys", "poison_imputed", "did you mean epochs?"]),
        ("seed: 0\n# why\nepochs: many\n", 3, ["'epochs' is 'many'"]),
        ("epochs: 0\n", 1, ["'epochs' is 0", "greater than or equal to 1"]),
        ("epochs: true\n", 1, ["'epochs' is True"]),
        ("seed: on\n", 1, ["'seed' is True", "only deterministic and deep_supervision are true or false"]),
        ("deterministic: 1\n", 1, ["'deterministic' is 1", "valid boolean"]),
        ("patience: 1.5\n", 1, ["'patience' is 1.5"]),
        ("batch_size: -1\n", 1, ["'batch_size' is -1"]),
        ("learning_rate: 0\n", 1, ["'learning_rate' is 0", "greater than 0"]),
        ("learning_rate: .inf\n", 1, ["'learning_rate' is inf", "finite"]),
        ("schedule: linear\n", 1, ["'schedule' is 'linear'", "'constant' or 'cosine'"]),
        ("clip: 0.5\n", 1, ["'clip' is 0.5", "greater than or equal to 1"]),
        ("input_dropout: 1\n", 1, ["'input_dropout' is 1", "less than 1"]),
        ("l2: -0.1\n", 1, ["'l2' is -0.1"]),
        ("l2: .nan\n", 1, ["'l2' is nan"]),
        ("poisoning_proportion: 1.01\n", 1, ["'poisoning_proportion' is 1.01", "less than or equal to 1"]),
        ("poisoning_proportion: 5%\n", 1, ["'poisoning_proportion' is '5%'"]),
        ("poisoning_strength: -2\n", 1, ["'poisoning_strength' is -2"]),
        ("poison_imputed: some\n", 1, ["'poison_imputed' is 'some'", "'notimputed' or 'all'"]),
        ("selection: luck\n", 1, ["'selection' is 'luck'", "'auroc' or 'original'"]),
        ("precision: half\n", 1, ["'precision' is 'half'", "mixed_float16"]),
        ("class_weights: [1]\n", 1, ["'class_weights' is [1]", "2 items"]),
        ("class_weights: [1, 2, 3]\n", 1, ["'class_weights' is [1, 2, 3]", "2 items"]),
        ("class_weights: [1, heavy]\n", 1, ["'class_weights' is 'heavy'"]),
        ("class_weights: 0.5\n", 1, ["'class_weights' is 0.5"]),
        ("seed: -1\n", 1, ["'seed' is -1"]),
        ("seed: 4294967296\n", 1, ["'seed' is 4294967296"]),
        ("normalizer: [a]\n", 1, ["'normalizer' is ['a']"]),
        ("data:\n", 1, ["'data'"]),
        ("seed: 2024-02-30\n", 1, ["seed"]),
        ("epochs: 1\nepochs: 2\n", 2, ["'epochs'", "twice"]),
        ("model: mlp\n", 1, ["'model' is 'mlp'", "--model 'lr'"]),
        ("task: nosuch\n", 1, ["'task' is 'nosuch': no such task; known: in-hospital-mortality"]),
        ("goal: 2\n", 1, ["'goal' is 2", "less than or equal to 1"]),
        ("goal: 0.5\n", 1, ["'goal' is 0.5"]),
        ("goal: no\n", 1, ["'goal' is False"]),
        ("period: 0\n", 1, ["'period' is 0", "greater than 0"]),
        ("period: two days\n", 1, ["'period' is 'two days'"]),
        ("timestep: 1.0e-9\n", 1, ["'timestep' is 1e-09", "give 0.001465 to 48 hours"]),
        ("timestep: -1\n", 1, ["'timestep' is -1", "greater than 0"]),
        ("timestep: .nan\n", 1, ["'timestep' is nan"]),
        ("1: 2\n", 1, ["unknown key '1'"]),
    ],
)
def test_a_fault_of_the_file_is_named_with_file_line_key_and_value(
    file: Path, text: str, line: int, needles: list[str]
) -> None:
    file.write_text(text)
    options = {"data": None} if text.startswith("data") else {}
    message = _message("lr", file, options)
    assert f"{file}, line {line}: " in message
    for needle in needles:
        assert needle in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("seed", -1),
        ("poisoning_proportion", -0.1),
        ("poisoning_proportion", float("nan")),
        ("poisoning_strength", float("inf")),
        ("precision", "float64"),
        ("task", "nosuch"),
        ("goal", 2),
        ("period", 0.0),
        ("timestep", 0.0),
        ("timestep", float("inf")),
    ],
)
def test_a_fault_of_an_option_names_the_option(file: Path, key: str, value: object) -> None:
    file.write_text(f"{key}: 1\n")
    message = _message("lr", file, {key: value})
    # The option has its spelling of the command line: only options of the original code have underscores.
    option = key if key.startswith("poison") else key.replace("_", "-")
    assert f"option --{option}" in message
    assert repr(value) in message
    assert str(file) not in message


@pytest.mark.parametrize(
    ("content", "needles"),
    [
        (b"epochs: [1\n", ["not YAML", "line 2"]),
        (b"epochs: 1\n  seed: 2\n", ["not YAML", "line 2"]),
        (b"epochs: \x07\n", ["not YAML"]),
        (b"!!python/object/apply:os.getcwd []\n", ["not YAML"]),
        (b"epochs: !!python/name:os.system\n", ["not YAML"]),
        (b"a word\n", ["'key: value'"]),
        (b"- 1\n", ["'key: value'"]),
        (b"", ["'key: value'"]),
        (b"epochs: caf\xe9\n", ["cannot be read"]),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(file: Path, content: bytes, needles: list[str]) -> None:
    file.write_bytes(content)
    message = _message("lr", file, {})
    for needle in [str(file), *needles]:
        assert needle in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "nosuch"}, "option --task is 'nosuch': no such task; known: in-hospital-mortality"),
        ({"timestep": 1e-9}, "option --timestep is 1e-09: a period of 48 h is read in 1 to 32,767 bins; "),
        ({"timestep": 0.001464}, "give 0.001465 to 48 hours"),
        ({"timestep": 1e9}, "give 0.001465 to 48 hours"),
        ({"period": 1e8}, "option --timestep is 1: a period of 1e+08 h is read in 1 to 32,767 bins; "),
        ({"period": 1e8}, "give 3052 to 1e+08 hours"),
    ],
)
def test_a_fault_of_an_option_says_each_thing_once(options: dict[str, Any], message: str) -> None:
    assert message in _message("lr", None, options)


@pytest.mark.parametrize(
    "given", [{"timestep": 0.001465}, {"timestep": 48.0}, {"period": 1e8, "timestep": 3052.0}]
)
def test_the_range_that_is_named_can_be_had(given: dict[str, Any]) -> None:
    config = resolve_config("lr", None, GIVEN | given)
    assert 1 <= bin_count(config.period or 48.0, config.timestep) <= MOST_BINS


def test_a_victim_that_there_is_not_is_named_with_those_there_are() -> None:
    message = _message("nosuch", None, {})
    assert "option --model is 'nosuch': no such victim" in message
    for name in VICTIMS:
        assert name in message


@pytest.mark.parametrize("model", VICTIMS)
def test_a_setting_that_nobody_gives_is_the_papers(model: str) -> None:
    config = resolve_config(model, None, GIVEN)
    assert (config.task, config.goal) == ("in-hospital-mortality", 1)
    # None means the period of the task.
    assert (config.period, config.timestep) == (None, 1.0)


def test_a_missing_file_is_named(file: Path) -> None:
    message = _message("lr", file, {})
    assert f"--config {file}: no such file; installed ones: " in message
    assert ", original/lr, " in message


def test_missing_data_is_named() -> None:
    assert _message("lr", None, {"data": None}).startswith("setting 'data' is missing; ")


def test_settings_do_not_change_after_the_check() -> None:
    config = resolve_config("lr", None, GIVEN)
    with pytest.raises(ValidationError, match="frozen"):
        config.epochs = 3


def test_settings_survive_the_way_through_a_run_directory() -> None:
    config = resolve_config("lstm", None, GIVEN | {"normalizer": Path("means.json"), "seed": 4})
    assert TrainingConfig(**config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"units": 1}, "'units' is 1; give a whole number from 2 to 4096"),
        ({"units": 16.7}, "'units' is 16.7; give a whole number"),
        ({"units": 1e8}, "'units' is 1e\\+08"),
        ({"depth": 0}, "'depth' is 0; give a whole number from 1"),
        ({"dropout": 1.5}, "'dropout' is 1.5; give a number from 0 to 0.99"),
        ({"hard_gates": 0.5}, "'hard_gates' is 0.5"),
        ({"width": 3}, "benchmark-lstm has no 'width'; known: units"),
    ],
)
def test_a_size_that_a_victim_cannot_have_is_named(sizes: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        victim_of("benchmark-lstm").sized(sizes)


@pytest.mark.parametrize(
    "file", sorted((CONFIGS / "benchmark").glob("*.yaml"), key=str), ids=lambda file: file.stem
)
def test_every_published_size_is_a_setting_of_its_victim(file: Path) -> None:
    model = yaml.safe_load(file.read_text())["model"]
    config = resolve_config(model, file, {"data": "data"})
    assert config.class_weights == [1.0, 1.0]
    sizes = victim_of(config.model).sized(config.sizes)
    assert sizes.keys() >= (config.sizes or {}).keys()
    assert all(isinstance(sizes[name], int) for name in sizes if name.endswith("units"))
