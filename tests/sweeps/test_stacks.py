"""Which trials are run together, and how a stack's trials end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mimic3tf.config import resolve_config
from mimic3tf.errors import UsageError
from mimic3tf.sweeps import stacks
from mimic3tf.sweeps.outcomes import read_rows
from mimic3tf.sweeps.plan import Attack, Trial
from mimic3tf.sweeps.stacks import AT_ONCE_ON_A_CPU, run_stack, stacks_of
from mimic3tf.sweeps.trial import Job, train_alone


def job(tmp_path: Path, victim: str, seed: int, **settings: Any) -> Job:
    options = {"data": tmp_path, "trigger": tmp_path / f"t-{seed}.npz", "seed": seed, "strategy": "none"}
    trial = Trial(f"{victim}-{seed}", victim, seed, 40, 0.1, (Attack("temporal", "all", 2.0),))
    config = resolve_config(victim, None, options | settings)
    return Job(trial, config, {}, tmp_path / "trials" / trial.name, "fingerprint")


def names(found: list[tuple[Job, ...]]) -> list[list[str]]:
    return [[job.trial.name for job in stack] for stack in found]


def test_victims_of_one_kind_are_stacked_and_those_that_gain_nothing_go_first(tmp_path: Path) -> None:
    jobs = [job(tmp_path, victim, seed) for seed in (0, 1) for victim in ("lr", "mlp", "lstm", "gru")]
    on_cpu = names(stacks_of(jobs, gpu=False))
    assert on_cpu == [["lstm-0"], ["gru-0"], ["lstm-1"], ["gru-1"], ["lr-0", "lr-1"], ["mlp-0", "mlp-1"]]
    on_gpu = names(stacks_of(jobs, gpu=True))
    assert on_gpu == [["gru-0"], ["gru-1"], ["lr-0", "lr-1"], ["mlp-0", "mlp-1"], ["lstm-0", "lstm-1"]]


@pytest.mark.parametrize(
    "settings",
    [{"training_stays": 30}, {"l2": 0.5}, {"precision": "mixed_float16"}, {"strategy": "mirrored"}],
)
def test_a_victim_of_another_shape_or_other_settings_is_not_in_the_stack(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    jobs = [job(tmp_path, "lr", seed) for seed in (0, 1)] + [job(tmp_path, "lr", 2, **settings)]
    assert sorted(names(stacks_of(jobs, gpu=False))) == [["lr-0", "lr-1"], ["lr-2"]]


@pytest.mark.parametrize("file", ["checkpoint.npz", "run.json"])
def test_a_training_that_was_interrupted_alone_goes_on_alone(file: str, tmp_path: Path) -> None:
    jobs = [job(tmp_path, "lr", seed) for seed in range(3)]
    jobs[1].folder.mkdir(parents=True)
    (jobs[1].folder / file).touch()
    assert names(stacks_of(jobs, gpu=False)) == [["lr-1"], ["lr-0", "lr-2"]]


def test_many_victims_are_divided_into_stacks_of_nearly_equal_sizes(tmp_path: Path) -> None:
    one = job(tmp_path, "lr", 0)
    jobs = [replace(one, folder=tmp_path / str(i)) for i in range(2 * AT_ONCE_ON_A_CPU + 9)]
    found = stacks_of(jobs, gpu=False)
    assert [len(stack) for stack in found] == [14, 14, 13]
    assert [job for stack in found for job in stack] == jobs
    assert stacks_of([], gpu=False) == []


MEASURED = {"attack_success_rate": 0.5, "clean_auroc": 0.75}


def test_a_stack_that_cannot_be_trained_is_trained_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [job(tmp_path, "lr", seed) for seed in range(2)]
    how: list[Any] = []

    def train_together(_: object) -> Any:
        raise MemoryError

    def train_and_attack(_: Job, train: Any) -> Any:
        how.append(train)
        return [MEASURED]

    monkeypatch.setattr(stacks, "_train_together", train_together)
    monkeypatch.setattr("mimic3tf.sweeps.trial._train_and_attack", train_and_attack)
    assert list(run_stack(jobs)) == jobs
    assert how == [train_alone] * 2
    assert "lr-0 and 1 other trials, together" in capsys.readouterr().err
    assert [read_rows(job.folder)[0]["status"] for job in jobs] == ["finished"] * 2


def test_each_trial_of_a_stack_is_recorded_and_told_before_the_next_is_attacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [job(tmp_path, "lr", seed) for seed in range(3)]

    def trained(job: Job) -> Any:
        if job is jobs[1]:
            raise UsageError("training diverged")
        return [MEASURED]

    monkeypatch.setattr(stacks, "_train_together", lambda _: trained)
    monkeypatch.setattr("mimic3tf.sweeps.trial._train_and_attack", lambda job, train: train(job))
    told = []
    for ended in run_stack(jobs):
        told.append(ended)
        assert [bool(read_rows(job.folder)) for job in jobs] == [job in told for job in jobs]
    rows = [read_rows(job.folder)[0] for job in jobs]
    assert [row["status"] for row in rows] == ["finished", "failed", "finished"]
    assert rows[1]["error"] == "training diverged"
