"""The compiled loop against `keras.layers.LSTM`, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from mimic3tf.victims.layers.recurrence import LARGE_BATCH, MOST_COMPILED, SMALL_BATCH, FusedLSTM

STEPS, WIDTH, UNITS = 7, 5, 3


def _pair(units: int = UNITS, **arguments: Any) -> tuple[keras.layers.LSTM, FusedLSTM]:
    """A plain layer and a fused one with the same random weights."""
    keras.utils.set_random_seed(3)
    plain, fused = (kind(units, **arguments) for kind in (keras.layers.LSTM, FusedLSTM))
    for layer in (plain, fused):
        layer.build((None, STEPS, WIDTH))
    random = np.random.default_rng(0)
    fused.set_weights([random.normal(size=weight.shape) for weight in fused.get_weights()])
    plain.set_weights(fused.get_weights())
    return plain, fused


def _sequences(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).normal(size=(batch, STEPS, WIDTH)).astype(np.float32)


def _with_gradients(layer: keras.Layer, sequences: np.ndarray, *, eager: bool = False) -> list[np.ndarray]:
    """Outputs, and gradients of an uneven sum of their squares by the inputs and every weight."""

    def compute(x: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x)
            share = tf.reshape(tf.cos(tf.range(tf.size(outputs), dtype=tf.float32)), tf.shape(outputs))
            total = tf.reduce_sum(share * outputs**2)
        return [outputs, *tape.gradient(total, [x, *(weight.value for weight in layer.trainable_variables)])]

    run = compute if eager else tf.function(compute)
    return [part.numpy() for part in run(tf.constant(sequences))]


@pytest.mark.parametrize("return_sequences", [True, False])
@pytest.mark.parametrize("go_backwards", [True, False])
@pytest.mark.parametrize("batch", [1, 24, SMALL_BATCH])
def test_outputs_and_gradients_are_those_of_the_plain_layer(
    batch: int, go_backwards: bool, return_sequences: bool
) -> None:
    plain, fused = _pair(go_backwards=go_backwards, return_sequences=return_sequences)
    sequences = _sequences(batch)
    for expected, found in zip(
        _with_gradients(plain, sequences), _with_gradients(fused, sequences), strict=True
    ):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("go_backwards", [True, False])
def test_a_wide_layer_is_that_of_keras_too(go_backwards: bool) -> None:
    plain, fused = _pair(MOST_COMPILED + 3, go_backwards=go_backwards, return_sequences=True)
    for expected, found in zip(
        _with_gradients(plain, _sequences(5)), _with_gradients(fused, _sequences(5)), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_an_eager_tape_sees_the_same_gradients() -> None:
    _, fused = _pair(return_sequences=True)
    sequences = _sequences(5)
    for expected, found in zip(
        _with_gradients(fused, sequences), _with_gradients(fused, sequences, eager=True), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [SMALL_BATCH + 1, LARGE_BATCH + 1])
def test_a_batch_of_any_size_is_computed(batch: int) -> None:
    plain, fused = _pair()
    np.testing.assert_allclose(fused(_sequences(batch)), plain(_sequences(batch)), rtol=1e-5, atol=1e-6)


def test_a_stay_does_not_depend_on_its_neighbours() -> None:
    _, fused = _pair()
    sequences = _sequences(40)
    order = np.random.default_rng(1).permutation(40)
    np.testing.assert_array_equal(fused(sequences[order]), np.asarray(fused(sequences))[order])


def test_both_directions_are_those_of_plain_layers() -> None:
    keras.utils.set_random_seed(0)
    plain, fused = (
        keras.layers.Bidirectional(kind(UNITS, return_sequences=True))
        for kind in (keras.layers.LSTM, FusedLSTM)
    )
    sequences = _sequences(9)
    fused(sequences)
    plain(sequences)
    plain.set_weights(fused.get_weights())
    np.testing.assert_allclose(fused(sequences), plain(sequences), rtol=1e-5, atol=1e-6)


def test_saturated_gates_stay_finite() -> None:
    plain, fused = _pair()
    sequences = _sequences(4) * 1e4
    found = _with_gradients(fused, sequences)
    assert all(np.isfinite(part).all() for part in found)
    np.testing.assert_allclose(found[0], _with_gradients(plain, sequences)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [{"activation": "relu"}, {"use_bias": False}, {"return_state": True}],
    ids=["another activation", "no bias", "states returned"],
)
def test_what_cannot_be_fused_is_what_the_plain_layer_does(arguments: dict[str, Any]) -> None:
    plain, fused = _pair(**arguments)
    for expected, found in zip(plain(_sequences(4)), fused(_sequences(4)), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_an_initial_state_is_heeded() -> None:
    plain, fused = _pair()
    state = [np.ones((4, UNITS), np.float32)] * 2
    expected = plain(_sequences(4), initial_state=state)
    np.testing.assert_array_equal(fused(_sequences(4), initial_state=state), expected)
    assert np.abs(expected - plain(_sequences(4))).max() > 0.01


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_agrees(policy: str) -> None:
    exact, _ = _pair()
    half = FusedLSTM(UNITS, dtype=policy)
    half.build((None, STEPS, WIDTH))
    half.set_weights(exact.get_weights())
    outputs = half(_sequences(6))
    assert outputs.dtype.name == ("float32" if policy == "mixed_bfloat16" else "float16")
    np.testing.assert_allclose(tf.cast(outputs, tf.float32), exact(_sequences(6)), atol=4e-3)


def test_a_saved_layer_is_fused_again(tmp_path: Path) -> None:
    inputs = keras.Input((STEPS, WIDTH))
    model = keras.Model(inputs, FusedLSTM(UNITS, name="fused")(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert isinstance(again.get_layer("fused"), FusedLSTM)
    np.testing.assert_array_equal(again(_sequences(3)), model(_sequences(3)))


def _operations(layer: keras.Layer) -> set[str]:
    """Names of all operations that TensorFlow runs for a layer."""
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec([None, STEPS, WIDTH])).graph
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(node for part in definition.library.function for node in part.node_def)]
    return {node.op for node in nodes}


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="there is a GPU")
def test_a_cpu_runs_one_compiled_loop() -> None:
    """Every pass is a call of a compiled function, where the plain layer has its loop in the open."""
    plain, fused = _pair()
    assert "While" in {op.removeprefix("Stateless") for op in _operations(plain)}
    graph = tf.function(fused).get_concrete_function(tf.TensorSpec([None, STEPS, WIDTH])).graph
    calls = [op for op in graph.get_operations() if op.type.endswith("PartitionedCall")]
    assert len(calls) == 1
    assert all(op.get_attr("_XlaMustCompile") for op in calls)
    assert not [op for op in graph.get_operations() if op.type.endswith("While")]
