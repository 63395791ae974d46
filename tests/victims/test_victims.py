from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import mimic3tf.victims
import mimic3tf.victims.linear
from mimic3tf.channels import ChannelSet
from mimic3tf.training.optimizer import AdamWithL2
from mimic3tf.victims import victim_names, victim_of

VICTIMS = [name for name in victim_names() if not victim_of(name).estimator]
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
PARAMETERS = {
    "lr": 714 * 2 + 2,
    "mlp": (714 * 400 + 400) + (400 * 2 + 2),
    # An LSTM of 16 units has four gates: 4 * 16 * (inputs + 16 + 1).
    "lstm": 2 * 64 * (76 + 17) + 2 * 64 * (32 + 17) + (32 * 10 + 10) + (10 * 2 + 2),
    # A GRU of 32 units has three gates, each with two biases.
    "gru": 3 * 32 * (76 + 32 + 2) + (32 * 2 + 2),
    "tcn": (76 * 32 + 32) + 8 * (3 * 32 * 32 + 32) + (32 * 2 + 2),
    # Every column goes into one channel's LSTM of 4 units, in two directions.
    "channelwise-lstm": 2 * 16 * (76 + 17 * 5) + 128 * (136 + 33) + (32 * 2 + 2),
    # A block: four projections of attention, two dense layers, two normalizations.
    "transformer": (76 * 32 + 32)
    + 48 * 32
    + 2 * (4 * (32 * 32 + 32) + (32 * 64 + 64) + (64 * 32 + 32) + 2 * 64)
    + 64
    + (32 * 2 + 2),
    # Mean, maximum and minimum of 76 columns: 228, with a mean and a deviation each; then four LSTMs, each
    # pooled in three ways.
    "summary-lstm": 2 * 228 + 4 * (64 * (228 + 17) + (3 * 16 * 2 + 2)),
}
STAYS = 6
Build = Callable[..., keras.Model]
Draw = Callable[..., np.ndarray]


@pytest.fixture(autouse=True)
def _seed() -> None:
    keras.utils.set_random_seed(0)


def _logits(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(inputs, training=False))


@pytest.mark.parametrize("name", VICTIMS)
def test_a_victim_has_as_many_parameters_as_its_layers_take(name: str, build: Build) -> None:
    if name not in PARAMETERS:
        pytest.skip(f"nobody has counted the parameters of {name}")
    for precision in PRECISIONS:
        assert build(name, precision).count_params() == PARAMETERS[name]


@pytest.mark.parametrize("bins", [13, 200])
@pytest.mark.parametrize("name", VICTIMS)
def test_every_victim_reads_stays_of_any_length_and_any_channels(
    name: str, bins: int, three_channels: ChannelSet, build: Build, draw: Draw
) -> None:
    assert len(three_channels.columns()) == 7
    model = build(name, bins=bins, channels=three_channels)
    inputs = draw(name, bins=bins, channels=three_channels)
    assert inputs.shape[1:] == {"grid": (bins, 7), "features": (3 * 42,)}[victim_of(name).reads]
    logits = _logits(model, inputs)
    assert logits.shape == (STAYS, 2)
    assert np.isfinite(logits).all()
    assert len(np.unique(logits[:, 0])) == STAYS


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", VICTIMS)
def test_every_victim_passes_the_shared_routine(
    name: str, precision: str, tmp_path: Path, build: Build, draw: Draw
) -> None:
    """Build, predict, save, load and train one step, under one precision policy."""
    model, inputs = build(name, precision), draw(name)
    logits = _logits(model, inputs)
    assert logits.shape == (STAYS, 2)
    assert logits.dtype == np.float32
    assert model.input_shape == (None, *inputs.shape[1:])
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}

    model.save(tmp_path / "victim.keras")
    # The policy is the file's, not the reader's.
    loaded = keras.models.load_model(tmp_path / "victim.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(_logits(loaded, inputs), logits)

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    model.compile(optimizer=AdamWithL2(1e-2, 1e-2), loss=loss, jit_compile=False)
    before = [variable.numpy() for variable in model.trainable_variables]
    labels, weights = np.arange(STAYS) % 2, np.linspace(0.5, 1, STAYS, dtype=np.float32)
    if precision == "mixed_float16":  # the first steps only find a loss scale that does not overflow
        model.optimizer.build(model.trainable_variables)
        model.optimizer.dynamic_scale.assign(1.0)
    assert np.isfinite(model.train_on_batch(inputs, labels, sample_weight=weights))
    after = [variable.numpy() for variable in model.trainable_variables]
    assert all(np.isfinite(weights).all() for weights in after)
    assert all((old != new).any() for old, new in zip(before, after, strict=True))
    assert np.isfinite(_logits(model, inputs)).all()


@pytest.mark.parametrize("name", VICTIMS)
def test_half_precision_gives_about_the_same_logits(name: str, build: Build, draw: Draw) -> None:
    exact, inputs = build(name), draw(name)
    for precision in PRECISIONS[1:]:
        half = build(name, precision)
        half.set_weights(exact.get_weights())
        np.testing.assert_allclose(_logits(half, inputs), _logits(exact, inputs), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", VICTIMS)
def test_a_few_steps_learn_a_batch_by_heart(name: str, build: Build, draw: Draw) -> None:
    model, inputs, labels = build(name), draw(name), np.arange(STAYS) % 2
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=AdamWithL2(2e-2, 0.0), loss=loss, jit_compile=False)
    first = model.train_on_batch(inputs, labels)
    for _ in range(25):
        last = model.train_on_batch(inputs, labels)
    assert last < 0.7 * first


def test_lr_and_mlp_are_the_formulas_of_their_names(build: Build, draw: Draw) -> None:
    for name in ("lr", "mlp"):
        model, hidden = build(name), draw(name).astype(np.float64)
        *halves, (kernel, bias) = [layer.get_weights() for layer in model.layers if layer.get_weights()]
        if halves:
            inner_kernel, inner_bias = (np.concatenate(parts, -1) for parts in zip(*halves, strict=True))
            assert inner_kernel.shape == (714, 400)
            hidden = np.maximum(hidden @ inner_kernel + inner_bias, 0)
        np.testing.assert_allclose(_logits(model, draw(name)), hidden @ kernel + bias, rtol=1e-4, atol=1e-4)


def test_the_lstm_is_two_bidirectional_layers_read_at_the_last_step(build: Build, draw: Draw) -> None:
    model, inputs = build("lstm"), draw("lstm")
    grid = keras.Input(inputs.shape[1:])
    first = keras.layers.Bidirectional(keras.layers.LSTM(16, return_sequences=True))
    second = keras.layers.Bidirectional(keras.layers.LSTM(16, return_sequences=True))
    head, logits = keras.layers.Dense(10), keras.layers.Dense(2)
    last_step = second(first(grid))[:, -1]
    plain = keras.Model(grid, logits(keras.ops.relu(head(last_step))))
    first.set_weights(model.get_layer("bidirectional_1").get_weights())
    directions = [
        model.get_layer(f"lstm_2_{direction}").get_weights() for direction in ("forward", "backward")
    ]
    second.set_weights([weights for direction in directions for weights in direction])
    head.set_weights(model.get_layer("head").get_weights())
    logits.set_weights(model.get_layer("logits").get_weights())
    np.testing.assert_allclose(_logits(model, inputs), _logits(plain, inputs), rtol=1e-5, atol=1e-6)


def test_the_lstm_drops_out_only_while_it_trains(build: Build, draw: Draw) -> None:
    model, inputs = build("lstm"), draw("lstm")
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.3, 0.3]
    np.testing.assert_array_equal(_logits(model, inputs), _logits(model, inputs))
    training = [keras.ops.convert_to_numpy(model(inputs, training=True)) for _ in range(2)]
    assert (training[0] != training[1]).any()


@pytest.mark.parametrize("name", VICTIMS)
def test_a_stays_prediction_does_not_depend_on_who_shares_its_batch(
    name: str, build: Build, draw: Draw
) -> None:
    model, inputs = build(name), draw(name)
    order = np.array([4, 0, 2])
    np.testing.assert_allclose(_logits(model, inputs[order]), _logits(model, inputs)[order], atol=1e-6)


@pytest.mark.parametrize("name", VICTIMS)
def test_a_gradient_reaches_every_weight_and_every_cell(name: str, build: Build, draw: Draw) -> None:
    """A trigger is spread over the whole grid: no bin and no column may be out of sight."""
    model, inputs = build(name), tf.constant(draw(name))

    @tf.function  # type: ignore[untyped-decorator]
    def gradients() -> tuple[list[tf.Tensor], tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_sum(
                model(inputs, training=False) * tf.range(1.0, 1 + 2 * STAYS)[::2, None] * [1, -2]
            )
        return tape.gradient(loss, (model.trainable_weights, inputs))

    by_weights, by_inputs = gradients()
    reached = {
        weight.path: bool(np.any(gradient))
        for weight, gradient in zip(model.trainable_weights, by_weights, strict=True)
    }
    if name == "lstm":  # its last backward layer takes one step, in which nothing recurs
        (silent,) = (path for path in reached if "lstm_2_backward" in path and "recurrent_kernel" in path)
        assert not reached.pop(silent)
    assert all(reached.values())
    # Untrained recurrent layers all but forget the first bins; their gradient is tiny, yet not zero.
    assert np.all(np.any(by_inputs, axis=0).any(axis=-1))
    assert np.all(np.any(by_inputs, axis=0).reshape(-1, by_inputs.shape[-1]).any(axis=0))


@pytest.mark.parametrize("name", VICTIMS)
def test_two_builds_share_no_weights(name: str, build: Build, draw: Draw) -> None:
    first, second = build(name), build(name)
    untouched = second.get_weights()
    first.set_weights([weights + 1 for weights in first.get_weights()])
    for weights, expected in zip(second.get_weights(), untouched, strict=True):
        np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize(
    "path",
    # The linear baselines are scikit-learn's.
    sorted({*Path(mimic3tf.victims.__file__).parent.glob("*.py")} - {Path(mimic3tf.victims.linear.__file__)}),
    ids=lambda path: path.stem,
)
def test_a_victims_file_imports_no_framework_but_keras(path: Path) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(f"{node.module}")
    standard = {name for name in imported if name.partition(".")[0] in sys.stdlib_module_names}
    own = {name for name in imported if name.startswith("mimic3tf.victims.")}
    own |= {
        # Layers that are TensorFlow's: compiled loops, with their gradients, and bits of random numbers.
        "recurrence": {"tensorflow"},
        "dropout": {"tensorflow"},
        # Find the others, and those of a user's own code.
        "__init__": {"mimic3tf.errors"},
        "own": {"mimic3tf.errors"},
        "sizes": {"mimic3tf.errors"},
    }.get(path.stem, set())
    assert imported <= standard | own | {"keras", "math", "mimic3tf.tasks.targets", "mimic3tf.victims"}
