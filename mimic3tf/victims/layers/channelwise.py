"""Bidirectional LSTMs, one for each channel, computed in one recurrence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from mimic3tf.victims.layers import cudnn
from mimic3tf.victims.layers.gates import hard_sigmoid


@keras.saving.register_keras_serializable("mimic3tf")
class ChannelwiseBidirectionalLSTM(keras.layers.Layer):
    """One small bidirectional LSTM for each channel; it reads only the columns of its channel.

    The layer maps [B, T, D] to [B, T, 2 * C * units]: the forward outputs of all channels, then the backward
    outputs. C layers `Bidirectional(LSTM(units))` would give the same values. This layer computes them as one
    LSTM with 2 * C * units units, whose kernels are zero between channels and between directions. This costs
    less than the thousands of small products that it replaces. Only the non-zero blocks are weights.

    Args:
        channel_of_column: int [D], position of the channel that each input column belongs to.
        units: units of one LSTM in one direction.
        hard_gates: whether the gates are the hard sigmoid of Keras 2.
        dtype: as for `keras.layers.Layer`; in place of bfloat16 it computes in float32.
        **kwargs: further arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        channel_of_column: Sequence[int],
        units: int,
        *,
        hard_gates: bool = False,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype=cudnn.recurrent_policy(dtype), **kwargs)
        self.hard_gates = hard_gates
        self.channel_of_column = list(channel_of_column)
        self.units = units
        self.channels = max(self.channel_of_column) + 1

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights, drawn as Keras draws those of each LSTM alone; the gates are i, f, c, o."""
        gates = 4 * self.units
        self.kernel = self.add_weight(
            shape=(2, input_shape[-1], gates), initializer=self._draw_kernel, name="kernel"
        )
        self.recurrent_kernel = self.add_weight(
            shape=(2, self.channels, self.units, gates),
            initializer=_draw_recurrent_kernel,
            name="recurrent_kernel",
        )
        self.bias = self.add_weight(shape=(2, self.channels, gates), initializer=self._draw_bias, name="bias")

    def call(self, inputs: Any, lengths: Any = None) -> Any:
        """Run the LSTMs over the time steps: [B, T, D] to [B, T, 2 * C * units].

        Args:
            inputs: [B, T, D].
            lengths: int [B], number of bins of every stay before the padding; T if not given.
        """

        def reverse(sequences: Any) -> Any:
            if lengths is None:
                return ops.flip(sequences, axis=0)
            return tf.reverse_sequence(sequences, lengths, seq_axis=0, batch_axis=1)

        # The backward direction reads a time-reversed copy, so both directions run in the same steps.
        inputs = ops.transpose(inputs, (1, 0, 2))
        inputs = ops.concatenate([inputs, reverse(inputs)], axis=-1)  # [T, B, 2 * D]
        kernel, recurrent_kernel, bias = self._block_weights()
        if cudnn.is_at_hand() and not self.hard_gates:
            outputs = cudnn.run_lstm(inputs, (kernel, recurrent_kernel, bias))
        else:
            gate = hard_sigmoid if self.hard_gates else ops.sigmoid
            outputs = _run(inputs, kernel, recurrent_kernel, bias, gate)
        forward, backward = ops.split(outputs, 2, axis=-1)
        outputs = ops.concatenate([forward, reverse(backward)], axis=-1)
        return ops.transpose(outputs, (1, 0, 2))

    def _block_weights(self) -> tuple[Any, Any, Any]:
        """Arrange the weights as one LSTM of K = 2 * C * units units: [2 * D, 4 * K], [K, 4 * K], [4 * K]."""
        channels, units, dtype = self.channels, self.units, self.compute_dtype
        same_direction = ops.eye(2, dtype=dtype)
        # Axes: direction, column; gate; direction, channel, unit.
        own_column = ops.one_hot(self.channel_of_column, channels, dtype=dtype)[:, None, None, :, None]
        kernel = ops.reshape(self.kernel, (2, -1, 4, 1, 1, units)) * own_column
        kernel = kernel * same_direction[:, None, None, :, None, None]
        # Axes: direction, channel, unit; gate; direction, channel, unit.
        own_channel = ops.eye(channels, dtype=dtype)[:, None, None, None, :, None]
        recurrent = ops.reshape(self.recurrent_kernel, (2, channels, units, 4, 1, 1, units)) * own_channel
        recurrent = recurrent * same_direction[:, None, None, None, :, None, None]
        bias = ops.transpose(ops.reshape(self.bias, (2, channels, 4, units)), (2, 0, 1, 3))
        width = 2 * channels * units
        return (
            ops.reshape(kernel, (-1, 4 * width)),
            ops.reshape(recurrent, (width, 4 * width)),
            ops.reshape(bias, (-1,)),
        )

    def compute_output_shape(self, input_shape: tuple[int | None, ...], *_: Any) -> tuple[int | None, ...]:
        """Return the shape of the outputs."""
        return (*input_shape[:-1], 2 * self.channels * self.units)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal layer."""
        own = {"channel_of_column": self.channel_of_column, "units": self.units}
        return {**super().get_config(), **own, "hard_gates": self.hard_gates}

    def _draw_kernel(self, shape: tuple[int, ...], dtype: str | None = None) -> Any:
        """Draw Glorot-uniform weights [2, D, gates]; the limits depend on the channel's number of columns."""
        widths = [self.channel_of_column.count(channel) for channel in self.channel_of_column]
        limits = [[math.sqrt(6 / (width + 4 * self.units))] for width in widths]
        return keras.initializers.RandomUniform(-1.0, 1.0)(shape, dtype) * ops.convert_to_tensor(
            limits, dtype
        )

    def _draw_bias(self, shape: tuple[int, ...], dtype: str | None = None) -> Any:
        """Set the bias [2, C, gates] to 1 for the forget gate and to 0 for the others."""
        return ops.broadcast_to(ops.cast(ops.arange(shape[-1]) // self.units == 1, dtype), shape)


def _run(inputs: Any, kernel: Any, recurrent_kernel: Any, bias: Any, gate: Callable[[Any], Any]) -> Any:
    """Run one LSTM of K units over the time steps: [T, B, D] to [T, B, K]."""
    projected = ops.matmul(inputs, kernel) + bias

    def step(state: tuple[Any, Any], projected: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        output, cell = state
        i, f, c, o = ops.split(projected + ops.matmul(output, recurrent_kernel), 4, axis=-1)
        cell = gate(f) * cell + gate(i) * ops.tanh(c)
        state = (gate(o) * ops.tanh(cell), cell)
        return state, state

    start = ops.zeros_like(projected[0, :, : recurrent_kernel.shape[0]])
    _, (outputs, _) = ops.scan(step, (start, start), projected)
    return outputs


def _draw_recurrent_kernel(shape: tuple[int, ...], dtype: str | None = None) -> Any:
    """Draw an orthogonal matrix for every LSTM: [2, C, units, gates]."""
    draws = [keras.initializers.Orthogonal()(shape[2:], dtype) for _ in range(shape[0] * shape[1])]
    return ops.reshape(ops.stack(draws), shape)
