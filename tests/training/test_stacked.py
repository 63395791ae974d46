"""Victims that are trained together end as each of them ends alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mimic3tf.config import TrainingConfig
from mimic3tf.errors import UsageError, UserError
from mimic3tf.training.log import NoLog
from mimic3tf.training.run_directory import load_run
from mimic3tf.training.stacked import train_stacked

Configure = Callable[..., TrainingConfig]
Train = Callable[..., Path]
MEMBERS: tuple[dict[str, Any], ...] = (
    {"poisoning_proportion": 0.0},
    {"poisoning_proportion": 0.1, "poison_imputed": "all"},
    {"poisoning_proportion": 0.2, "poisoning_strength": 1.0, "seed": 5},
    {"poisoning_proportion": 0.2, "poison_imputed": "all", "poisoning_strength": 0.5},
)
SHARED: dict[str, dict[str, Any]] = {
    "lr": {"epochs": 4, "patience": 2, "learning_rate": 3e-3, "l2": 1e-2, "log_level": "minimal"},
    "mlp": {
        **{"epochs": 3, "patience": 1, "learning_rate": 1e-3, "clip": 3.0, "input_dropout": 0.3},
        **{"schedule": "cosine", "selection": "original", "log_level": "minimal"},
    },
    "lstm": {"epochs": 1, "batch_size": 32, "learning_rate": 1e-3, "log_level": "minimal"},
}
"""Settings of the victims. The steps are small: where a gradient is nearly 0, Adam enlarges its rounding."""


def events_of(run: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(run)).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if "seconds" not in tag and "second" not in tag and "wait" not in tag
    }


def check_same(together: Path, alone: Path, *, tolerance: float) -> None:
    """Compare two run directories but for the rounding of float32."""
    names = [
        sorted(path.name.split(".tfevents.")[0] for path in folder.iterdir()) for folder in (together, alone)
    ]
    assert names[0] == names[1]
    for name in ("config.yaml", "trigger.npz", "standardization.npz"):
        assert (together / name).read_bytes() == (alone / name).read_bytes(), name
    ours, theirs = (json.loads((folder / "run.json").read_text()) for folder in (together, alone))
    assert ours.pop("validation") == pytest.approx(theirs.pop("validation"), abs=1e-4, nan_ok=True)
    assert ours == theirs
    mine, yours = (
        np.genfromtxt(folder / "metrics.csv", delimiter=",", skip_header=1) for folder in (together, alone)
    )
    np.testing.assert_allclose(mine, yours, atol=1e-4)
    weights = [load_run(folder).model.get_weights() for folder in (together, alone)]
    for mine, yours in zip(*weights, strict=True):
        np.testing.assert_allclose(mine, yours, atol=tolerance)
    seen = [events_of(folder) for folder in (together, alone)]
    assert seen[0].keys() == seen[1].keys()
    for tag, course in seen[0].items():
        np.testing.assert_allclose(course, seen[1][tag], atol=1e-4, err_msg=tag)


@pytest.fixture
def stack(
    configure: Configure, workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[list[Path], list[dict[str, Any] | UserError]]]:
    """Train victims of one kind together, whose settings differ as `members` says."""
    from mimic3tf.dashboards.tensorboard import RunLog

    monkeypatch.setenv("MIMIC3TF_CACHE", str(workshop / "cache"))

    def run(model: str, members: Any, *, log: Any = RunLog, **shared: Any) -> Any:
        configs = [configure(model, **{**SHARED[model], **shared, **member}) for member in members]
        outs = [tmp_path / f"together-{index}" for index in range(len(configs))]
        return outs, train_stacked(configs, outs, log=log)

    return run


@pytest.mark.parametrize(
    "model", ["lr", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mlp", "lstm"))]
)
def test_each_victim_of_a_stack_is_the_victim_that_it_is_alone(
    model: str, stack: Callable[..., Any], train: Train, tmp_path: Path
) -> None:
    members = MEMBERS if model != "lstm" else MEMBERS[1:3]
    outs, summaries = stack(model, members)
    for index, (member, out, summary) in enumerate(zip(members, outs, summaries, strict=True)):
        alone = train(tmp_path / f"alone-{index}", model, **SHARED[model] | member)
        check_same(out, alone, tolerance=1e-4)
        written = json.loads((out / "run.json").read_text())
        assert summary["epoch_kept"] == written["epoch_kept"]


@pytest.mark.slow
def test_a_missing_value_trigger_and_victims_of_one_seed(
    stack: Callable[..., Any], train: Train, tmp_path: Path, data: Path
) -> None:
    from mimic3tf.data.loading import load_cohort
    from mimic3tf.poisoning.trigger import generate_trigger, save_trigger

    missing = tmp_path / "missing.npz"
    save_trigger(generate_trigger(load_cohort(data, "train"), kind="missing"), missing)
    members = [{"trigger": missing, "poisoning_strength": 0.5}, {}]
    outs, _ = stack("lr", members, log=NoLog)
    for index, (member, out) in enumerate(zip(members, outs, strict=True)):
        alone = train(tmp_path / f"alone-{index}", "lr", log=NoLog, **SHARED["lr"] | member)
        check_same(out, alone, tolerance=1e-4)


def test_a_victim_that_cannot_be_trained_costs_no_other(stack: Callable[..., Any]) -> None:
    members = [{"poisoning_proportion": 1.0}, {}, {"poisoned_labels": "flipped", "seed": 2}]
    outs, summaries = stack("lr", members, log=NoLog, epochs=1)
    assert isinstance(summaries[0], UsageError)
    assert "--poisoning_proportion 1" in str(summaries[0])
    assert [(out / "run.json").exists() for out in outs] == [False, True, True]
    assert not isinstance(summaries[1], UserError)


def test_a_victim_that_diverges_costs_no_other(
    stack: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mimic3tf.training.validation import Validation

    risks = Validation.risks

    def diverging(self: Validation, clean: Any, triggered: Any) -> Any:
        spoilt = clean * np.nan if self._config.seed == 1 else clean
        return risks(self, spoilt, triggered)

    monkeypatch.setattr(Validation, "risks", diverging)
    outs, summaries = stack("lr", [{"seed": 1}, {"seed": 2}], log=NoLog, epochs=2)
    assert "training diverged" in str(summaries[0])
    assert [(out / "run.json").exists() for out in outs] == [False, True]


def test_other_settings_are_not_stacked(stack: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="differ"):
        stack("lr", [{}, {"l2": 0.5}])
    with pytest.raises(ValueError, match="loss scale"):
        stack("lr", [{}, {}], precision="mixed_float16")


def test_a_finished_run_and_an_unknown_file_are_kept(stack: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "together-1").mkdir()
    (tmp_path / "together-1" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="no run directory"):
        stack("lr", [{}, {}])
    assert (tmp_path / "together-1" / "notes.txt").read_text() == "mine"
