"""A trial that fails, or takes its worker with it, leaves the others alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from mimic3tf.config import resolve_config
from mimic3tf.sweeps.local import run_locally
from mimic3tf.sweeps.outcomes import has_finished, read_rows
from mimic3tf.sweeps.plan import Attack, Resources, Trial
from mimic3tf.sweeps.trial import Job, Trained, _train_and_attack

Run = Callable[..., None]
RAY = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (extra 'sweep')")
FAULTS = ("", "raises", "raises once", "dies", "dies once", "mistake", "")


class Told:
    """A board that remembers."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.over: list[str] = []

    def started(self, job: Job) -> None:
        self.begun.append(job.trial.name)

    def ended(self, job: Job) -> None:
        assert read_rows(job.folder)
        self.over.append(job.trial.name)


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    """One trial for every fault, by its position; the last has two attacks."""
    config = resolve_config("lr", None, {"data": tmp_path, "trigger": tmp_path / "t.npz"})
    attack, other = Attack("temporal", "all", 2.0), Attack("temporal", "notimputed", 2.0)
    trials = [Trial(f"trial-{seed}", "lr", seed, 40, 0.1, (attack,)) for seed in range(len(FAULTS) - 1)]
    trials.append(Trial(f"trial-{len(trials)}", "lr", len(trials), 40, 0.0, (attack, other)))
    return [Job(trial, config, {}, tmp_path / "trials" / trial.name, "fingerprint") for trial in trials]


def test_attacks_follow_the_links_that_the_sweep_follows(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(*_: object, follow_links: bool) -> tuple[None, None]:
        asked.append(follow_links)
        return None, None

    monkeypatch.setattr("mimic3tf.training.run_directory.load_run", lambda *_, **__: None)
    for links in (True, False):
        trial = replace(jobs[0].trial, attacks=())
        job = replace(jobs[0], trial=trial, config=jobs[0].config.following(links))
        _train_and_attack(job, lambda _: Trained({}, 0.0, load, load))
    assert asked == [True, False]


@pytest.fixture(params=["local", pytest.param("ray", marks=RAY)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    def run(jobs: list[Job], board: Told, start: Callable[[], None]) -> None:
        if request.param == "local":
            run_locally(
                [(job,) for job in jobs], workers=2, start=start, log=tmp_path / "workers.log", board=board
            )
            return
        from mimic3tf.sweeps.on_ray import run_on_ray

        run_on_ray(
            jobs,
            address=None,
            workers=2,
            resources=Resources(),
            start=start,
            scratch=tmp_path / "ray",
            board=board,
        )

    return run


def test_faults_are_tried_again_then_recorded_and_the_others_go_on(
    engine: Run, jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # for Ray's workers
    import faults

    attempts, told = tmp_path / "attempts", Told()
    attempts.mkdir()
    by_name = {job.trial.name: fault for job, fault in zip(jobs, FAULTS, strict=True)}
    engine(jobs, told, partial(faults.start, attempts, by_name))

    assert sorted(told.over) == sorted(by_name)
    assert set(told.begun) == set(by_name)
    tried = {name: len((attempts / name).read_text()) for name in by_name}
    assert [tried[f"trial-{i}"] for i in range(7)] == [1, 2, 2, 2, 2, 1, 1]
    rows = [read_rows(job.folder) for job in jobs]
    assert [row[0]["status"] for row in rows] == [
        "finished",
        "failed",
        "finished",
        "failed",
        "finished",
        "failed",
        "finished",
    ]
    assert [has_finished(job.folder) for job in jobs] == [True, False, True, False, True, False, True]
    assert [row[0]["error"] for row in (rows[0], rows[1], rows[5])] == [
        None,
        "RuntimeError: no such luck",
        "too strong",
    ]
    assert "worker" in rows[3][0]["error"]
    assert [row["attack_success_rate"] for row in rows[1] + rows[2]] == [None, 0.5]
    assert [row["poison_imputed"] for row in rows[6]] == ["all", "notimputed"]
    assert all(row["stays_poisoned"] == 4 for trial in rows[:6] for row in trial)


def test_a_process_is_replaced_after_some_trials(
    jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setattr("mimic3tf.sweeps.local.TRIALS_A_PROCESS", 3)
    import faults

    told = Told()
    start = partial(faults.start, tmp_path, {})
    run_locally([(job,) for job in jobs], workers=1, start=start, log=tmp_path / "workers.log", board=told)
    assert told.over == [job.trial.name for job in jobs]
    processes = (tmp_path / "processes").read_text().split()
    assert [processes.count(process) for process in dict.fromkeys(processes)] == [3, 3, 1]
