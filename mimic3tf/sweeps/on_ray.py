"""Run trials with Ray Tune, on this machine or on a cluster."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mimic3tf.config import TrainingConfig

# Ray reads these when it is imported. Ray must send no usage reports, and Tune must write and print nothing
# in addition to our output.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
# Tune must not catch Ctrl-C: it is a `KeyboardInterrupt`, as without Ray.
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mimic3tf.errors import UsageError, UserError
from mimic3tf.sweeps.folder import describe_data
from mimic3tf.sweeps.outcomes import write_rows
from mimic3tf.sweeps.plan import Resources
from mimic3tf.sweeps.trial import ATTEMPTS, Board, Job, run_trial

OBJECT_STORE = 10**8
"""Size of Ray's object store in bytes. Ray passes only settings: cohorts are memory-mapped from files."""


class _Worker(tune.Trainable):
    """Runs one trial after the other, so that TensorFlow starts and compiles only once in each worker."""

    def setup(self, config: dict[str, Any], jobs: Sequence[Job], start: Callable[[], None]) -> None:
        start()
        self._jobs = jobs
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._job = self._jobs[new_config["job"]]
        return True

    def step(self) -> dict[str, Any]:
        run_trial(self._job)
        return {"done": True}


class _Teller(tune.Callback):
    """Passes the start and the end of Tune's trials to a board."""

    def __init__(self, jobs: Sequence[Job], board: Board) -> None:
        self._jobs, self._board = jobs, board

    def __getstate__(self) -> dict[str, Any]:
        # Tune saves the state of its callbacks for a restart, but a board cannot be saved.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._board.started(self._jobs[trial.config["job"]])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._board.ended(self._jobs[trial.config["job"]])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        job = self._jobs[trial.config["job"]]
        # The worker catches and records an error of the trial itself, so here the worker has died.
        reason = str(trial.get_error()).strip().splitlines()[-1].strip()
        fault = f"the worker died: {reason}"
        write_rows(job.folder, job.trial, job.data_fingerprint, error=fault)
        self._board.ended(job)


def run_on_ray(
    jobs: Sequence[Job],
    *,
    address: str | None,
    workers: int | None,
    resources: Resources,
    start: Callable[[], None],
    scratch: Path,
    board: Board,
) -> None:
    """Run trials with Ray Tune.

    Args:
        jobs: the trials. Every machine of the cluster must have their files under the same paths.
        address: address of a cluster; if not given, Ray is started on this machine.
        workers: largest number of trials at a time; if not given, as many as the resources allow.
        resources: what Ray reserves for each trial.
        start: what each process calls first; it starts TensorFlow, for example.
        scratch: folder for Tune's own files, on every machine; deleted at the end.
        board: receives the start and the end of every trial.

    Raises:
        UsageError: the cluster cannot be reached, or does not have the resources of a trial.
        UserError: a machine of the cluster cannot read the data.
    """
    if not jobs:
        return
    _connect(address)
    try:
        _check_resources(resources)
        if address is not None:
            _warm_machines(jobs[0].config)
        trainable = tune.with_parameters(_Worker, jobs=jobs, start=start)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
            param_space={"job": tune.grid_search(list(range(len(jobs))))},
            tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=workers),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=str(scratch),
                # A trial writes its own checkpoints.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=ATTEMPTS - 1),
                callbacks=[_Teller(jobs, board)],
                verbose=0,
            ),
        )
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        tuner.fit()
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


def _connect(address: str | None) -> None:
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        ray.init("local", include_dashboard=False, object_store_memory=OBJECT_STORE, **options)
        return
    try:
        ray.init(address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        fault = " ".join(str(error).split())
        raise UsageError(f"--ray-address {address}: no Ray cluster can be reached there: {fault}") from None


def _check_resources(resources: Resources) -> None:
    there = ray.cluster_resources()
    for kind, wanted in (("CPU", resources.cpus), ("GPU", resources.gpus)):
        if wanted > there.get(kind, 0):
            raise UsageError(f"a trial asks for {wanted:g} {kind}s, Ray has {there.get(kind, 0):g} in all")


def _warm_machines(config: TrainingConfig) -> None:
    """Let every machine fill its cache once, before several of its trials read the stays at the same time."""
    reading = {
        "task": config.task,
        "period": config.period,
        "timestep": config.timestep,
        "follow_links": config.follow_links,
    }
    warm = ray.remote(num_cpus=0)(describe_data)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    strategies = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    try:
        ray.get(
            [
                warm.options(scheduling_strategy=strategy).remote(config.data, reading, config.attack_goal)
                for strategy in strategies
            ]
        )
    except ray.exceptions.RayTaskError as error:
        raise UserError(f"a machine of the cluster cannot read the data: {error.cause}") from None
