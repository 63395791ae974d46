from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimic3tf.errors import UsageError
from mimic3tf.sweeps.plan import (
    Attack,
    Trial,
    proportion_of,
    read_sweep,
    settings_of,
    trials_of,
)

STAYS = 5592
CONFIGS = Path(__file__).parents[2] / "configs"
SOUND = """\
seeds: [0]
grids:
  - victims: [lr]
    poison_imputed: [all]
    proportions: [0.1]
    strengths: [2.0]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(SOUND)
    return path


def plan(path: Path, stays: int = STAYS) -> list[Trial]:
    return trials_of(read_sweep(str(path)), stays)


def test_the_papers_grid_trains_123_victims_a_seed_and_attacks_clean_ones_with_everything() -> None:
    trials = plan(CONFIGS / "sweeps/paper.yaml")
    assert [trial.seed for trial in trials] == [0] * 123 + [1] * 123 + [2] * 123
    assert len({trial.name for trial in trials}) == len(trials)
    clean = [trial for trial in trials if trial.poisoning_proportion == 0]
    assert [(trial.victim, trial.seed) for trial in clean] == [
        (victim, seed) for seed in range(3) for victim in ("lr", "mlp", "lstm")
    ]
    everything = {
        Attack("temporal", mode, strength) for mode in ("notimputed", "all") for strength in (0.5, 1, 1.5, 2)
    }
    assert all(set(trial.attacks) == everything for trial in clean)
    poisoned = [trial for trial in trials if trial.poisoning_proportion]
    assert all(len(trial.attacks) == 1 for trial in poisoned)
    assert len({(t.victim, t.seed, t.poisoning_proportion, t.attacks) for t in poisoned}) == 3 * 3 * 5 * 8


@pytest.mark.parametrize(
    ("name", "a_seed"), [("strengths", 69), ("count", 90), ("tasks", 4), ("triggers", 21), ("victims", 15)]
)
def test_installed_sweeps_have_so_many_trials_a_seed(name: str, a_seed: int) -> None:
    trials = trials_of(read_sweep(name), STAYS)
    assert len(trials) == 3 * a_seed
    assert len({trial.name for trial in trials}) == len(trials)


def test_the_same_count_by_share_and_by_number_is_one_trial() -> None:
    """5% of 1000, 2000 and 4000 stays are the fixed counts 50, 100 and 200, too."""
    of_victim = [t for t in plan(CONFIGS / "sweeps/count.yaml") if (t.victim, t.seed) == ("lr", 0)]
    counts = sorted((t.training_stays, t.stays_poisoned) for t in of_victim if len(t.attacks) == 1)
    fixed = [(stays, count) for stays in (1000, 2000, 4000, STAYS) for count in (50, 100, 200)]
    assert counts == sorted(2 * [*fixed, (STAYS, 279)])  # two modes


def test_a_setting_has_the_name_that_says_it(file: Path) -> None:
    (trial,) = plan(file)
    poison = Attack("temporal", "all", 2.0)
    assert trial == Trial("lr-temporal-all-p0.1-s2-seed0", "lr", 0, STAYS, 0.1, (poison,))
    file.write_text(SOUND.replace("proportions: [0.1]", "poisoned_stays: [3]\n    training_stays: [40]"))
    (trial,) = plan(file)
    assert trial == Trial("lr-temporal-all-k3-s2-n40-seed0", "lr", 0, 40, 3 / 40, (poison,))


@given(st.integers(1, 10**6).flatmap(lambda stays: st.tuples(st.integers(1, stays), st.just(stays))))
def test_a_count_survives_being_a_proportion(numbers: tuple[int, int]) -> None:
    count, stays = numbers
    assert int(stays * proportion_of(count, stays)) == count


def test_settings_are_the_victims_own_with_those_of_the_trial(file: Path) -> None:
    (file.parent / "quick.yaml").write_text("epochs: 7\nseed: 9\n")
    file.write_text(SOUND + "configs: {lr: quick.yaml}\n")
    sweep = read_sweep(str(file))
    (trial,) = trials_of(sweep, 40)
    config = settings_of(sweep, trial, Path("data"), Path("t.npz"))
    assert (config.model, config.epochs, config.seed, config.training_stays) == ("lr", 7, 0, 40)
    assert (config.poisoning_proportion, config.poisoning_strength, config.poison_imputed) == (0.1, 2, "all")


# --- Mistakes ------------------------------------------------------------------------------------------

MISTAKES = [
    # Text of the sound file, what stands there instead, the line, and what the message names.
    ("seeds: [0]", "seeds: [-1]", 1, "'seeds' is -1"),
    ("seeds: [0]", "seeds: [yes]", 1, "'seeds'"),
    ("seeds: [0]", "seeds: []", 1, "'seeds'"),
    ("seeds: [0]", "seeds: [0]\nworkers: 3", 2, "unknown key 'workers'"),
    ("seeds: [0]", "seeds: [0]\nconfig: {}", 2, "unknown key 'config'; did you mean configs?"),
    ("seeds: [0]", "seeds: [0]\ntask: death", 2, "'task' is 'death': no such task; known: "),
    ("[lr]", "[lr, svm]", 3, "'victims' is 'svm': no such victim; known: "),
    ("[all]", "\n      - most", 5, "'poison_imputed' is 'most'"),
    ("[0.1]", "[0.1, 1.5]", 5, "'proportions' is 1.5"),
    ("[0.1]", "[0.1]\n    poisoned_stays: [3]", 3, "either 'proportions' or 'poisoned_stays'"),
    ("    proportions: [0.1]\n", "", 3, "either 'proportions' or 'poisoned_stays'"),
    ("    strengths: [2.0]\n", "", 3, "missing key 'strengths'"),
    ("strengths: [2.0]", "strengths: [2.0]\n    colour: red", 7, "unknown key 'colour'"),
    ("strengths: [2.0]", "strengths: [.inf]", 6, "'strengths' is inf"),
    ("strengths: [2.0]", "strengths: [2.0]\n    strengths: [1.0]", 7, "'strengths' is given twice"),
    ("strengths: [2.0]", "strengths: [2.0]\n    training_stays: [few]", 7, "'training_stays' is 'few'"),
    ("seeds: [0]", "resources: {cpus: 1,\n  gpus: -1}\nseeds: [0]", 2, "'gpus' is -1"),
]


@pytest.mark.parametrize(("text", "instead", "line", "named"), MISTAKES)
def test_a_mistake_is_named_with_its_line(file: Path, text: str, instead: str, line: int, named: str) -> None:
    assert text in SOUND
    file.write_text(SOUND.replace(text, instead))
    with pytest.raises(UsageError) as caught:
        read_sweep(str(file))
    assert str(caught.value).startswith(f"{file}, line {line}: ")
    assert named in str(caught.value)
    assert "Value error" not in str(caught.value), "these are Pydantic's words"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("instead", "named"),
    [
        ("proportions: [0.1]\n    training_stays: [all, 41]", "'training_stays' is 41"),
        ("poisoned_stays: [41]", "'poisoned_stays' is 41"),
        ("training_stays: [all, 10]\n    poisoned_stays: [11]", "'poisoned_stays' is 11"),
    ],
)
def test_more_stays_than_there_are_is_named_with_its_line(file: Path, instead: str, named: str) -> None:
    file.write_text(SOUND.replace("proportions: [0.1]", instead))
    with pytest.raises(UsageError, match=named) as caught:
        plan(file, 40)
    assert f"{file}, line " in str(caught.value)


def test_a_mistake_in_a_victims_file_is_named_with_its_line(file: Path) -> None:
    (file.parent / "quick.yaml").write_text("epochs: 7\nbatch_size: 0\n")
    file.write_text(SOUND + "configs: {lr: quick.yaml}\n")
    with pytest.raises(UsageError, match="quick.yaml, line 2: 'batch_size' is 0"):
        read_sweep(str(file))


def test_a_sweep_may_name_installed_settings(file: Path) -> None:
    file.write_text(SOUND + "configs: {lr: original/lr}\n")
    sweep = read_sweep(str(file))
    config = settings_of(sweep, trials_of(sweep, 40)[0], Path("data"), Path("t.npz"))
    assert (config.model, config.selection, config.epochs) == ("lr", "original", 50)


def test_settings_lie_beside_the_sweep_and_not_where_the_command_was_typed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = file.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "quick.yaml").write_text("epochs: 7\n")
    monkeypatch.chdir(elsewhere)
    file.write_text(SOUND + "configs: {lr: quick.yaml}\n")
    with pytest.raises(UsageError, match="mine.yaml, line 7: quick.yaml: no such file"):
        read_sweep(str(file))


@pytest.mark.parametrize("name", ["papers", "folder/mine.yaml", "/absent/mine.yaml", "mine.yml"])
def test_a_sweep_that_is_not_there_is_refused_with_the_names_there_are(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(file.parent)
    with pytest.raises(UsageError) as caught:
        read_sweep(name)
    known = "count, paper, strengths, tasks, triggers, victims"
    meant = {"papers": "; did you mean paper?", "mine.yml": "; did you mean mine.yaml?"}.get(name, "")
    assert str(caught.value) == f"--config {name}: no such file; installed sweeps: {known}{meant}"


def test_a_folder_is_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_sweep(str(tmp_path))


def test_too_short_a_timestep_is_named_with_its_line(file: Path) -> None:
    file.write_text(SOUND + "timestep: 1.0e-9\n")
    with pytest.raises(UsageError, match="mine.yaml, line 7: 'timestep' is 1e-09: .* give 0.001465 to 48 h"):
        read_sweep(str(file))
