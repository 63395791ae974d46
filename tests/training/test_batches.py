"""Every stay is dealt once an epoch, in an order of its own, with weights that make a mean."""

from __future__ import annotations

import numpy as np
import pytest

from mimic3tf.training.batches import stay_batches

LABELS = (np.arange(23) % 4 == 0).astype(np.int64)


def dealt(
    epochs: range, *, batch_size: int = 5, seed: int = 0, replicas: int = 1, own: range | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    dataset = stay_batches(
        LABELS,
        class_weights=[0.25, 2.0],
        batch_size=batch_size,
        seed=seed,
        first_epoch=epochs.start,
        replicas=replicas,
        own=range(replicas) if own is None else own,
    )
    local = len(range(replicas) if own is None else own)
    steps = len(epochs) * -(-len(LABELS) // batch_size)
    return list(dataset.take(steps * local).as_numpy_iterator())


def order(epoch: int, seed: int = 0) -> list[int]:
    return np.concatenate([stays for stays, _ in dealt(range(epoch, epoch + 1), seed=seed)]).tolist()


def test_an_epoch_has_every_stay_once() -> None:
    assert [len(stays) for stays, _ in dealt(range(1))] == [5, 5, 5, 5, 3]
    assert sorted(order(0)) == list(range(23))


def test_seed_and_epoch_alone_fix_the_order() -> None:
    later = [stays.tolist() for stays, _ in dealt(range(0, 3))][10:]
    assert [stays.tolist() for stays, _ in dealt(range(2, 3))] == later
    assert len({tuple(order(epoch, seed)) for epoch in range(3) for seed in (0, 1, 2**32 - 1)}) == 9


def test_the_weights_of_a_batch_are_those_of_its_classes_and_sum_to_one() -> None:
    for stays, weight in dealt(range(2)):
        expected = np.where(LABELS[stays] == 1, 2.0, 0.25)
        np.testing.assert_allclose(weight, expected / expected.sum(), rtol=1e-6)


@pytest.mark.parametrize(("replicas", "batch_size"), [(2, 5), (2, 4), (3, 8), (4, 20)])
def test_replicas_share_the_batches_of_one(replicas: int, batch_size: int) -> None:
    whole = dealt(range(2), batch_size=batch_size)
    parts = dealt(range(2), batch_size=batch_size, replicas=replicas)
    for step, (stays, weight) in enumerate(whole):
        shares = parts[step * replicas : (step + 1) * replicas]
        assert len({len(share) for share, _ in shares}) == 1
        shown = [pair for share, of in shares for pair in zip(share, of, strict=True) if pair[1] > 0]
        assert sorted(shown) == sorted(zip(stays, weight, strict=True))


def test_processes_feed_their_own_replicas() -> None:
    every = dealt(range(1), replicas=4)
    for own in (range(0, 2), range(2, 4)):
        mine = dealt(range(1), replicas=4, own=own)
        expected = [pair for step in range(5) for pair in every[4 * step + own.start : 4 * step + own.stop]]
        for (stays, weight), (other, of) in zip(mine, expected, strict=True):
            np.testing.assert_array_equal(stays, other)
            np.testing.assert_array_equal(weight, of)
