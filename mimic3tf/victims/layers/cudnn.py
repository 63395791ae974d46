"""LSTMs on a GPU: one operation of cuDNN takes all time steps.

Keras has such an operation, too, but splits and transposes the weights of every gate before it. On victims
this small, a GPU waits for each of these operations to be started. `CudnnRNNV2`, which would try which of
cuDNN's algorithms is the fastest, finds none that works (TensorFlow 2.21, cuDNN 9, H200).
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


def recurrent_policy(dtype: Any = None) -> keras.DTypePolicy:
    """Return the dtype policy of a recurrent layer: the given or global one, but float32 for bfloat16.

    On a GPU, TensorFlow 2.21 runs cuDNN in bfloat16 but returns no gradients of the weights: training fails.
    """
    policy = keras.dtype_policies.get(dtype)
    return keras.DTypePolicy("float32") if policy.compute_dtype == "bfloat16" else policy


def is_at_hand() -> bool:
    """Tell whether TensorFlow runs on a GPU with cuDNN."""
    return bool(tf.sysconfig.get_build_info()["is_cuda_build"] and tf.config.list_logical_devices("GPU"))


def run_lstm(inputs: Any, *directions: tuple[Any, Any, Any]) -> Any:
    """Run an LSTM over all time steps, in one direction or in two.

    Args:
        inputs: [T, B, D].
        *directions: kernel [D, 4H], recurrent kernel [H, 4H] and bias [4H], with Keras' gates i, f, c, o, of
            the direction that begins at the first step, and of one that begins at the last step.

    Returns:
        The outputs by time: [T, B, H], or [T, B, 2H] with those of the second direction last.
    """
    # cuDNN reads every gate's matrix transposed: one after the other, they are the whole matrix transposed.
    matrices = [tf.reshape(tf.transpose(matrix), [-1]) for way in directions for matrix in way[:2]]
    # It has a second bias.
    biases = [part for *_, bias in directions for part in (bias, tf.zeros(bias.shape, bias.dtype))]
    # What is known when the graph is made needs no operation.
    steps, batch = (inputs.shape[axis] or tf.shape(inputs)[axis] for axis in (0, 1))
    start = tf.zeros([len(directions), batch, directions[0][1].shape[0]], inputs.dtype)
    return tf.raw_ops.CudnnRNNV3(
        input=inputs,
        input_h=start,
        input_c=start,
        params=tf.concat([*matrices, *biases], axis=0),
        sequence_lengths=tf.fill([batch], steps),
        time_major=True,
        rnn_mode="lstm",
        direction=("unidirectional", "bidirectional")[len(directions) - 1],
        # As Keras does, also outside of training.
        is_training=True,
    ).output
