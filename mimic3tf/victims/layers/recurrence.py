"""LSTM layers whose time steps run in one compiled loop on a CPU, and in one operation on a GPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
import tensorflow as tf

from mimic3tf.victims.layers import cudnn

# This option makes XLA compile a whole loop as one function. Without it, XLA dispatches every operation of
# every step, which takes longer than the arithmetic of layers this small. XLA reads the option when it first
# compiles something.
_ONE_FUNCTION = "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=1000000000"
if "xla_backend_extra_options" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_ONE_FUNCTION}".strip()

_stacked = ContextVar("stacked", default=False)


@contextmanager
def stacked_recurrence() -> Iterator[None]:
    """Let the layers that are traced meanwhile run their steps in a loop that `tf.vectorized_map` can stack.

    XLA can compile the stacked loop, on a GPU, too. There, cuDNN would run one victim after the other.
    """
    token = _stacked.set(True)
    try:
        yield
    finally:
        _stacked.reset(token)


def _on_cudnn() -> bool:
    return cudnn.is_at_hand() and not _stacked.get()


MOST_COMPILED = 32
"""Most units of a layer whose loop is compiled as one function. In such a function, the products of a wider
layer take many times as long as TensorFlow's own."""
SMALL_BATCH, LARGE_BATCH = 32, 512
"""XLA compiles every batch size anew, so batches are padded: to a multiple of SMALL_BATCH up to LARGE_BATCH
stays, to a multiple of LARGE_BATCH above."""


@keras.saving.register_keras_serializable("mimic3tf")
class FusedLSTM(keras.layers.LSTM):
    """`keras.layers.LSTM` whose time steps run in one operation.

    Weights, arguments and results are those of `keras.layers.LSTM`; each layer can load the other's weights.
    On a CPU, one matrix product projects the inputs of all time steps, and one gives the gradient of each
    kernel; only what depends on the step before is in a compiled loop. On a GPU, cuDNN takes all steps. With
    a mask, an initial state or dropout, the plain Keras layer runs.

    Args:
        units: units of the layer.
        dtype: as for `keras.layers.LSTM`; in place of bfloat16 it computes in float32.
        **kwargs: further arguments of `keras.layers.LSTM`.
    """

    def __init__(self, units: int, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(units, dtype=cudnn.recurrent_policy(dtype), **kwargs)

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """Map sequences [B, T, D] to outputs [B, T, units], or to those of the last step [B, units]."""
        if initial_state is not None or mask is not None or not self.is_fused:
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        if _on_cudnn():
            inputs = tf.transpose(sequences, [1, 0, 2])
            inputs = tf.reverse(inputs, [0]) if self.go_backwards else inputs
            outputs = cudnn.run_lstm(inputs, self.weights_of_gates())
            return tf.transpose(outputs, [1, 0, 2]) if self.return_sequences else outputs[-1]
        # Half precision is not faster on a CPU, so the loop computes in float32.
        x, *weights = (tf.cast(value, tf.float32) for value in (sequences, *self.weights_of_gates()))
        order = tf.range(_steps_in(x))
        if self.go_backwards:
            order = tf.reverse(order, [0])
        outputs = tf.cast(_recurrence(x, *weights, order), self.compute_dtype)
        return outputs if self.return_sequences else outputs[:, -1]

    @property
    def is_fused(self) -> bool:
        """Whether the layer has the activations and the bias of an LSTM, no dropout and no state."""
        return (
            self.activation is keras.activations.tanh
            and self.recurrent_activation is keras.activations.sigmoid
            and self.use_bias
            and not (self.dropout or self.recurrent_dropout or self.stateful or self.return_state)
        )

    def weights_of_gates(self) -> tuple[Any, Any, Any]:
        """Return kernel [D, 4H], recurrent kernel [H, 4H] and bias [4H], with the gates i, f, c, o."""
        return self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias


@keras.saving.register_keras_serializable("mimic3tf")
class Bidirectional(keras.layers.Bidirectional):
    """`keras.layers.Bidirectional` that runs both directions of a `FusedLSTM` in one operation on a GPU.

    Args:
        layer: the layer of the direction that begins at the first step.
        dtype: as for `keras.layers.Bidirectional`; in place of bfloat16 it computes in float32.
        **kwargs: further arguments of `keras.layers.Bidirectional`.
    """

    def __init__(self, layer: keras.Layer, dtype: Any = None, **kwargs: Any) -> None:
        super().__init__(layer, dtype=cudnn.recurrent_policy(dtype), **kwargs)

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """Map sequences [B, T, D] to outputs [B, T, 2 * units]."""
        ways = (self.forward_layer, self.backward_layer)
        plain = initial_state is None and mask is None and self.merge_mode == "concat"
        fused = all(isinstance(way, FusedLSTM) and way.is_fused and way.return_sequences for way in ways)
        if not (plain and fused and _on_cudnn()):
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        inputs = tf.transpose(sequences, [1, 0, 2])
        return tf.transpose(cudnn.run_lstm(inputs, *(way.weights_of_gates() for way in ways)), [1, 0, 2])


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _recurrence(
    x: tf.Tensor, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, order: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor | None, ...]]]:
    """Compute the outputs [B, T, H] in the order in which the steps are taken.

    Shapes: x [B, T, D], kernels [D, 4H] and [H, 4H], bias [4H], with the gates i, f, c, o. `order` [T] lists
    the time steps in the order in which they are taken.
    """
    # The gradient is given below; without this line, eager tapes would look for it in the compiled loops.
    x, kernel, recurrent_kernel, bias = map(tf.stop_gradient, (x, kernel, recurrent_kernel, bias))
    units = recurrent_kernel.shape[0]
    batch, steps, width = tf.shape(x)[0], _steps_in(x), x.shape[2]
    # As tanh(z) = 2 sigmoid(2z) - 1, one sigmoid computes all four gates.
    doubled = tf.repeat(tf.constant([1.0, 1.0, 2.0, 1.0]), units)
    rows = tf.reshape(x, [-1, width])
    gates = tf.reshape(tf.matmul(rows, kernel * doubled) + bias * doubled, [-1, steps, 4 * units])
    doubled_kernel = recurrent_kernel * doubled
    # Inside a stack, the loops are compiled with all that surrounds them.
    plain = _stacked.get() or units > MOST_COMPILED
    forward, backward = (run.python_function if plain else run for run in (_forward, _backward))
    filled_up = tf.identity if plain else _filled_up
    outputs, *saved = forward(filled_up(gates), doubled_kernel, order)
    outputs, before = outputs[:batch], saved.pop(0)[:batch]

    def gradient(by_outputs: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
        transposed_kernel = tf.transpose(recurrent_kernel)
        by_gates = backward(filled_up(by_outputs), *saved, transposed_kernel, order)
        by_rows = tf.reshape(by_gates[:batch], [-1, 4 * units])
        return (
            tf.reshape(tf.matmul(by_rows, kernel, transpose_b=True), [-1, steps, width]),
            tf.matmul(rows, by_rows, transpose_a=True),
            tf.matmul(tf.reshape(before, [-1, units]), by_rows, transpose_a=True),
            tf.reduce_sum(by_rows, 0),
            None,
        )

    return outputs, gradient


def _filled_up(batch: tf.Tensor) -> tf.Tensor:
    """Pad a batch [B, T, F] with zeros to a size that XLA has probably compiled already."""
    size = tf.shape(batch)[0]
    multiple = tf.where(size <= LARGE_BATCH, SMALL_BATCH, LARGE_BATCH)
    return tf.pad(batch, [[0, -size % multiple], [0, 0], [0, 0]])


@tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
def _forward(
    gates: tf.Tensor, recurrent_kernel: tf.Tensor, order: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Run the steps of an LSTM.

    Returns:
        The outputs [B, T, H] by step, the output before each time step [B, T, H] by time, the cell states
        [T, B, H] by step, and the gates after their activation [T, B, 4H] by step.
    """
    steps, units = _steps_in(gates), recurrent_kernel.shape[0]
    nothing = tf.zeros([tf.shape(gates)[0], units])

    def step(t: tf.Tensor, h: tf.Tensor, c: tf.Tensor, before: Any, hs: Any, cs: Any, gs: Any) -> Any:
        before = _written(before, order[t], h)
        gate = tf.sigmoid(gates[:, order[t]] + tf.matmul(h, recurrent_kernel))
        i, f, g, o = tf.split(gate, 4, 1)
        c = f * c + i * (2 * g - 1)
        h = o * tf.tanh(c)
        return t + 1, h, c, before, _written(hs, t, h), _written(cs, t, c), _written(gs, t, gate)

    arrays = (_steps_of(gates, width) for width in (units, units, units, 4 * units))
    state = (0, nothing, nothing, *arrays)
    _, _, _, *arrays = tf.while_loop(lambda t, *_: t < steps, step, state, maximum_iterations=steps)
    before, hs, cs, gs = (_joined(array) for array in arrays)
    return tf.transpose(hs, [1, 0, 2]), tf.transpose(before, [1, 0, 2]), cs, gs


@tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
def _backward(
    by_outputs: tf.Tensor, cells: tf.Tensor, gates: tf.Tensor, transposed_kernel: tf.Tensor, order: tf.Tensor
) -> tf.Tensor:
    """Map the gradient of the outputs [B, T, H] to that of the gates before activation [B, T, 4H]."""
    steps, units = _steps_in(by_outputs), cells.shape[2]
    given, by_outputs = by_outputs, tf.transpose(by_outputs, [1, 0, 2])
    # Four small products and four arrays compile to a faster loop than one large product and one array.
    kernels = tf.split(transposed_kernel, 4, 0)
    nothing = tf.zeros_like(cells[0])

    def step(t: tf.Tensor, by_h: tf.Tensor, by_c: tf.Tensor, arrays: list[Any]) -> tuple[Any, ...]:
        i, f, g, o = tf.split(gates[t], 4, 1)
        g = 2 * g - 1
        tanh_c = tf.tanh(cells[t])
        c_before = tf.where(t > 0, cells[tf.maximum(t - 1, 0)], 0.0)
        by_h = by_h + by_outputs[t]
        by_c = by_c + by_h * o * (1 - tanh_c * tanh_c)
        by_gate = [
            by_c * g * i * (1 - i),
            by_c * c_before * f * (1 - f),
            by_c * i * (1 - g * g),
            by_h * tanh_c * o * (1 - o),
        ]
        by_h = tf.add_n([tf.matmul(part, kernel) for part, kernel in zip(by_gate, kernels, strict=True)])
        written = [_written(array, order[t], part) for array, part in zip(arrays, by_gate, strict=True)]
        return t - 1, by_h, by_c * f, written

    state = (steps - 1, nothing, nothing, [_steps_of(given, units) for _ in range(4)])
    *_, arrays = tf.while_loop(lambda t, *_: t >= 0, step, state, maximum_iterations=steps)
    return tf.transpose(tf.concat([_joined(array) for array in arrays], 2), [1, 0, 2])


def _steps_in(sequences: tf.Tensor) -> Any:
    """Return the number of steps T of sequences [B, T, ...]; a tensor if stays have different lengths."""
    return sequences.shape[1] or tf.shape(sequences)[1]


def _steps_of(batch: tf.Tensor, width: int) -> Any:
    """Make the array [T, B, width] that the steps of a batch [B, T, ...] write into."""
    steps = _steps_in(batch)
    if _stacked.get():
        # XLA cannot compile a stacked `TensorArray`.
        return tf.zeros([steps, tf.shape(batch)[0], width])
    return tf.TensorArray(tf.float32, steps, element_shape=[None, width])


def _written(array: Any, index: tf.Tensor, value: tf.Tensor) -> Any:
    if isinstance(array, tf.TensorArray):
        return array.write(index, value)
    return tf.tensor_scatter_nd_update(array, tf.reshape(index, [1, 1]), value[None])


def _joined(array: Any) -> tf.Tensor:
    return array.stack() if isinstance(array, tf.TensorArray) else array
