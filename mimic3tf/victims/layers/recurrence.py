"""An LSTM layer whose time steps run in one compiled loop on a CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

# Compiles a whole loop as one function. By itself XLA dispatches every operation of every step, which takes
# longer than the arithmetic of layers this small. It is read when XLA first compiles something.
_ONE_FUNCTION = "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=1000000000"
if "xla_backend_extra_options" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_ONE_FUNCTION}".strip()

SMALL_BATCH, LARGE_BATCH = 32, 512
"""A batch is filled up to a multiple of the first, one larger than the second to a multiple of that: XLA
compiles every size anew."""


@keras.saving.register_keras_serializable("mimic3tf")
class FusedLSTM(keras.layers.LSTM):
    """`keras.layers.LSTM` in a compiled loop, where there is no GPU.

    Weights, arguments and results are those of `keras.layers.LSTM`: weights can be loaded from one into the
    other. Inputs of all time steps are projected in one matrix product, and so are the gradients of the
    weights; only what a step needs of the step before stays in the loop. With a GPU, or with a mask, an
    initial state or dropout, the plain layer runs, which uses cuDNN where it can.
    """

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """Outputs [B, T, units], or [B, units] of the last step, for sequences [B, T, D]."""
        if initial_state is not None or mask is not None or not self._can_fuse():
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        # Half precision gains nothing on a CPU, so the loop is exact there.
        x, kernel, recurrent_kernel, bias = (
            tf.cast(value, tf.float32)
            for value in (sequences, self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias)
        )
        order = tf.range(x.shape[1])
        if self.go_backwards:
            order = tf.reverse(order, [0])
        outputs = tf.cast(_recurrence(x, kernel, recurrent_kernel, bias, order), self.compute_dtype)
        return outputs if self.return_sequences else outputs[:, -1]

    def _can_fuse(self) -> bool:
        plain = (
            self.activation is keras.activations.tanh
            and self.recurrent_activation is keras.activations.sigmoid
            and self.use_bias
            and not (self.dropout or self.recurrent_dropout or self.stateful or self.return_state)
        )
        return plain and not tf.config.list_logical_devices("GPU")


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _recurrence(
    x: tf.Tensor, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor, order: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor | None, ...]]]:
    """Outputs [B, T, H], in the order that the steps [T] are taken in.

    For x [B, T, D], kernels [D, 4H] and [H, 4H], and bias [4H], with the gates i, f, c, o.
    """
    # Eager tapes would look into the compiled loops for a gradient that is given below.
    x, kernel, recurrent_kernel, bias = map(tf.stop_gradient, (x, kernel, recurrent_kernel, bias))
    units = recurrent_kernel.shape[0]
    batch, steps, width = tf.shape(x)[0], x.shape[1], x.shape[2]
    # tanh(z) = 2 sigmoid(2z) - 1 makes all four gates one sigmoid.
    doubled = tf.repeat(tf.constant([1.0, 1.0, 2.0, 1.0]), units)
    rows = tf.reshape(x, [-1, width])
    gates = tf.reshape(tf.matmul(rows, kernel * doubled) + bias * doubled, [-1, steps, 4 * units])
    doubled_kernel = recurrent_kernel * doubled
    outputs, *saved = _forward(_filled_up(gates), doubled_kernel, order)
    outputs, before = outputs[:batch], saved.pop(0)[:batch]

    def gradient(by_outputs: tf.Tensor) -> tuple[tf.Tensor | None, ...]:
        transposed_kernel = tf.transpose(recurrent_kernel)
        by_gates = _backward(_filled_up(by_outputs), *saved, transposed_kernel, order)
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
    """A batch [B, T, F], filled up with zeros to a size that is likely to be compiled already."""
    size = tf.shape(batch)[0]
    multiple = tf.where(size <= LARGE_BATCH, SMALL_BATCH, LARGE_BATCH)
    return tf.pad(batch, [[0, -size % multiple], [0, 0], [0, 0]])


@tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
def _forward(
    gates: tf.Tensor, recurrent_kernel: tf.Tensor, order: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Outputs [B, T, H], and the output before each [B, T, H], by time;

    and cell states [T, B, H] and gates [T, B, 4H] after their activation.
    """
    steps, units = gates.shape[1], recurrent_kernel.shape[0]
    nothing = tf.zeros([tf.shape(gates)[0], units])

    def step(t: tf.Tensor, h: tf.Tensor, c: tf.Tensor, before: Any, hs: Any, cs: Any, gs: Any) -> Any:
        before = before.write(order[t], h)
        gate = tf.sigmoid(gates[:, order[t]] + tf.matmul(h, recurrent_kernel))
        i, f, g, o = tf.split(gate, 4, 1)
        c = f * c + i * (2 * g - 1)
        h = o * tf.tanh(c)
        return t + 1, h, c, before, hs.write(t, h), cs.write(t, c), gs.write(t, gate)

    state = (0, nothing, nothing, *(_steps_of(steps, width) for width in (units, units, units, 4 * units)))
    _, _, _, *arrays = tf.while_loop(lambda t, *_: t < steps, step, state, maximum_iterations=steps)
    before, hs, cs, gs = (array.stack() for array in arrays)
    return tf.transpose(hs, [1, 0, 2]), tf.transpose(before, [1, 0, 2]), cs, gs


@tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
def _backward(
    by_outputs: tf.Tensor, cells: tf.Tensor, gates: tf.Tensor, transposed_kernel: tf.Tensor, order: tf.Tensor
) -> tf.Tensor:
    """Gradient [B, T, 4H] by the gates before their activation, from that by the outputs [B, T, H]."""
    steps, units = cells.shape[0], cells.shape[2]
    by_outputs = tf.transpose(by_outputs, [1, 0, 2])
    # Four small products and four arrays compile to better loops than one of each.
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
        written = [array.write(order[t], part) for array, part in zip(arrays, by_gate, strict=True)]
        return t - 1, by_h, by_c * f, written

    state = (steps - 1, nothing, nothing, [_steps_of(steps, units) for _ in range(4)])
    *_, arrays = tf.while_loop(lambda t, *_: t >= 0, step, state, maximum_iterations=steps)
    return tf.transpose(tf.concat([array.stack() for array in arrays], 2), [1, 0, 2])


def _steps_of(steps: int, width: int) -> tf.TensorArray:
    return tf.TensorArray(tf.float32, steps, element_shape=[None, width])
