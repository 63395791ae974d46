"""Training on several GPUs or several machines."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from mimic3tf.config import Strategy
from mimic3tf.errors import UsageError, UserError


def resolve_strategy(name: Strategy) -> tf.distribute.Strategy:
    """Make the `tf.distribute` strategy to train under.

    This call connects the workers, so it must come before any other use of TensorFlow.

    Args:
        name: "none" is one replica; "mirrored" is one replica on each GPU (or logical CPU) of this machine;
            "multiworker" is one replica on each GPU of each machine in TF_CONFIG; "auto" is "multiworker" if
            TF_CONFIG names several machines, else "mirrored" if there are several GPUs, else "none".

    Raises:
        UsageError: "multiworker" is asked for, and TF_CONFIG does not name several workers with this one.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if name == "auto":
        name = "multiworker" if _has_other_workers() else "mirrored" if len(gpus) > 1 else "none"
    if name == "multiworker":
        _check_cluster()
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU" if gpus else "CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def _has_other_workers() -> bool:
    """Tell whether TF_CONFIG names other processes; schedulers also set it for a cluster of one process."""
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
        return sum(len(cluster[job]) for job in cluster if job != "evaluator") > 1
    except (AttributeError, TypeError, ValueError):
        return True  # `_check_cluster` refuses this TF_CONFIG and shows the right form


def _check_cluster() -> None:
    try:
        described = json.loads(os.environ["TF_CONFIG"])
        workers, task = described["cluster"]["worker"], described["task"]
        sound = task["type"] == "worker" and 0 <= task["index"] < len(workers) > 1
    except (KeyError, TypeError, ValueError):
        sound = False
    if not sound or len(described["cluster"]) > 1:
        raise UsageError(
            "--strategy multiworker: TF_CONFIG must be JSON like "
            '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}'
        )


@contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Turn TensorFlow's error about a lost worker into one line; it comes within about a minute.

    Raises:
        UserError: another worker was killed, failed, or was never started.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if not os.environ.get("TF_CONFIG"):
            raise
        raise UserError(
            f"training stopped: another worker ended or cannot be reached ({type(error).__name__}); see what "
            f"it says, then start all workers again with --resume"
        ) from error


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Tell whether this process writes the run directory: it is worker 0, or the only process."""
    resolver = strategy.cluster_resolver
    return resolver is None or not resolver.task_id


def from_chief(strategy: tf.distribute.Strategy, message: bytes) -> bytes:
    """Send a message from worker 0 to every worker.

    Args:
        strategy: the strategy of all workers.
        message: the message; that of other workers than worker 0 is ignored.

    Returns:
        The message of worker 0.
    """

    if not strategy.cluster_resolver:
        return message

    def send(numbers: list[int], size: int) -> list[int]:
        mine = numbers if is_chief(strategy) else [0] * size
        # TensorFlow offers sums over workers, but no broadcast, and on a GPU no sums of int32.
        sums = strategy.run(lambda: tf.constant(mine, tf.int64) * _if_first())
        return strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None).numpy().tolist()

    (size,) = send([len(message)], 1)
    return bytes(send(list(message), size)) if size else b""


class Workers:
    """Keeps all workers in agreement with worker 0.

    Args:
        strategy: the strategy of all workers.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy

    def agree_on(self, value: Any) -> Any:
        """Return the value of worker 0 on every worker; JSON must be able to hold it."""
        return json.loads(from_chief(self._strategy, json.dumps(value).encode()))

    def refuse_others(self, value: Any) -> None:
        """Refuse to train with other settings or data than worker 0.

        Raises:
            UsageError: this worker's value differs from that of worker 0.
        """
        mine = json.dumps(value).encode()
        if from_chief(self._strategy, mine) != mine:
            raise UsageError("--strategy multiworker: settings or data differ from those of worker 0")


def _if_first() -> tf.Tensor:
    return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group == 0, tf.int64)


def distribute(
    strategy: tf.distribute.Strategy, dataset_for: Callable[[int, range], tf.data.Dataset]
) -> tf.data.Dataset:
    """Make a distributed dataset in which every process feeds its own replicas.

    Args:
        strategy: the strategy of all workers.
        dataset_for: makes the dataset of one process from the number of all replicas and the range of its
            own; the dataset gives one element to each of these replicas in turn.
    """

    def feed(context: tf.distribute.InputContext) -> tf.data.Dataset:
        replicas = context.num_replicas_in_sync
        local = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local
        return dataset_for(replicas, range(first, first + local))

    return strategy.distribute_datasets_from_function(feed)
