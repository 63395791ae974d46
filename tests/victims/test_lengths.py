"""Victims of stays of different lengths: padding changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.config import resolve_config
from mimic3tf.errors import UsageError
from mimic3tf.tasks.registry import PHENOTYPING
from mimic3tf.training.models import build_untrained

Build = Callable[..., keras.Model]
RECURRENT = ("lstm", "channelwise-lstm", "gru", "tcn", "transformer", "benchmark-lstm")
LENGTHS = (5, 1, 9)


@pytest.mark.parametrize("name", RECURRENT)
def test_a_stay_is_predicted_alone_as_in_a_padded_batch(name: str, build: Build) -> None:
    model = build(name, bins=None, task=PHENOTYPING)
    stays = [np.random.default_rng(n).normal(size=(1, n, 76)).astype(np.float32) for n in LENGTHS]
    batch = np.concatenate([np.pad(stay, ((0, 0), (0, 12 - stay.shape[1]), (0, 0))) for stay in stays])
    alone = np.concatenate([model(stay).numpy() for stay in stays])
    assert alone.shape == (3, 25)
    np.testing.assert_allclose(model(batch).numpy(), alone, rtol=1e-4, atol=1e-5)
    # Every bin of a stay counts, the first and the last.
    for bin_ in (0, 8):
        changed = batch.copy()
        changed[2, bin_] += 1
        assert np.abs(model(changed).numpy()[2] - alone[2]).max() > 1e-6
        np.testing.assert_allclose(model(changed).numpy()[:2], alone[:2], rtol=1e-4, atol=1e-5)


def test_the_lstm_for_stays_of_one_length_is_the_same_network(build: Build) -> None:
    fixed, ragged = build("lstm"), build("lstm", bins=None)
    first = fixed.get_layer("bidirectional_1")
    ragged.get_layer("lstm_1_forward").set_weights(first.forward_layer.get_weights())
    ragged.get_layer("lstm_1_backward").set_weights(first.backward_layer.get_weights())
    for name in ("lstm_2_forward", "lstm_2_backward", "head", "logits"):
        ragged.get_layer(name).set_weights(fixed.get_layer(name).get_weights())
    x = np.random.default_rng(0).normal(size=(3, 48, 76)).astype(np.float32)
    np.testing.assert_allclose(ragged(x).numpy(), fixed(x).numpy(), rtol=1e-4, atol=1e-5)


def test_the_summary_lstm_asks_for_stays_of_one_length() -> None:
    config = resolve_config("summary-lstm", None, {"data": "data", "task": "phenotyping"})
    with pytest.raises(UsageError, match="--model summary-lstm: needs stays of one length"):
        build_untrained(config, MIMIC3, None, "float32")
