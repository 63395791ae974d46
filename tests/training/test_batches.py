"""Every stay is dealt once an epoch, in an order of its own, with weights that make a mean."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mimic3tf.training import batches
from mimic3tf.training.batches import stay_batches

LABELS = (np.arange(23) % 4 == 0).astype(np.int64)


def calls(
    epochs: range, *, batch_size: int = 5, seed: int = 0, replicas: int = 1, own: range | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Elements of some epochs."""
    own = range(replicas) if own is None else own
    dataset = stay_batches(
        np.array([0.25, 2.0])[LABELS],
        batch_size=batch_size,
        seed=seed,
        first_epoch=epochs.start,
        replicas=replicas,
        own=own,
    )
    an_epoch = math.ceil(math.ceil(len(LABELS) / batch_size) / batches.STEPS_A_CALL)
    return list(dataset.take(len(epochs) * an_epoch * len(own)).as_numpy_iterator())


def dealt(
    epochs: range, *, batch_size: int = 5, seed: int = 0, replicas: int = 1
) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """Stays and weights of every step, for each replica, without what a batch is filled up with."""
    elements = calls(epochs, batch_size=batch_size, seed=seed, replicas=replicas)
    assert {stays.shape[1] for stays, _ in elements} == {-(-batch_size // replicas)}
    return [
        [(stays[shown > 0], shown[shown > 0]) for stays, shown in shares]
        for call in range(0, len(elements), replicas)
        for shares in zip(
            *(zip(*element, strict=True) for element in elements[call : call + replicas]), strict=True
        )
    ]


def order(epoch: int, seed: int = 0) -> list[int]:
    steps = dealt(range(epoch, epoch + 1), seed=seed)
    return np.concatenate([stays for ((stays, _),) in steps]).tolist()


def test_an_epoch_has_every_stay_once() -> None:
    assert [len(stays) for ((stays, _),) in dealt(range(1))] == [5, 5, 5, 5, 3]
    assert sorted(order(0)) == list(range(23))


def test_a_call_ends_with_its_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "STEPS_A_CALL", 20)
    # 23 steps an epoch.
    assert [len(stays) for stays, _ in calls(range(2), batch_size=1)] == [20, 3, 20, 3]
    assert sorted(np.concatenate([stays[:, 0] for stays, _ in calls(range(1), batch_size=1)])) == [*range(23)]


def test_seed_and_epoch_alone_fix_the_order() -> None:
    later = np.concatenate([stays for stays, _ in calls(range(0, 3))[2:]])
    np.testing.assert_array_equal(np.concatenate([stays for stays, _ in calls(range(2, 3))]), later)
    assert len({tuple(order(epoch, seed)) for epoch in range(3) for seed in (0, 1, 2**32 - 1)}) == 9


def test_the_weights_of_a_batch_are_those_of_its_classes_and_sum_to_one() -> None:
    for ((stays, weight),) in dealt(range(2)):
        expected = np.where(LABELS[stays] == 1, 2.0, 0.25)
        np.testing.assert_allclose(weight, expected / expected.sum(), rtol=1e-6)


@pytest.mark.parametrize(("replicas", "batch_size"), [(2, 5), (2, 4), (3, 8), (4, 20)])
def test_replicas_share_the_batches_of_one(replicas: int, batch_size: int) -> None:
    whole = dealt(range(2), batch_size=batch_size)
    parts = dealt(range(2), batch_size=batch_size, replicas=replicas)
    for ((stays, weight),), shares in zip(whole, parts, strict=True):
        shown = [pair for share in shares for pair in zip(*share, strict=True)]
        assert sorted(shown) == sorted(zip(stays, weight, strict=True))


def test_processes_feed_their_own_replicas() -> None:
    every = calls(range(1), replicas=4)
    for own in (range(0, 2), range(2, 4)):
        mine = calls(range(1), replicas=4, own=own)
        expected = every[own.start : own.stop]
        for (stays, weight), (other, of) in zip(mine, expected, strict=True):
            np.testing.assert_array_equal(stays, other)
            np.testing.assert_array_equal(weight, of)
