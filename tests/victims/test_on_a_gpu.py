"""What TensorFlow is given to run on a GPU: the graph of a victim's training step, made but not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import keras
import pytest
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism

from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.training.optimizer import AdamWithL2
from mimic3tf.training.steps import Steps
from mimic3tf.victims import victim_names, victim_of

NETWORKS = [name for name in victim_names() if not victim_of(name).estimator]
PRECISIONS = {
    "float32": tf.float32,
    "mixed_bfloat16": tf.float32,
    "mixed_float16": tf.float16,
}
"""Policy of a victim -> what its recurrent layers compute in."""
CUDNN = {"benchmark-lstm": 3, "lstm": 3, "gru": 1, "channelwise-lstm": 2, "summary-lstm": 4}
"""Operations of cuDNN that compute a victim's recurrent layers."""
REFUSED = {
    *("Timestamp", "SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits"),
    *("Bincount", "DenseBincount", "MaxPoolGradWithArgmax", "SparseTensorDenseMatMul"),
    *("FusedBatchNormGrad", "FusedBatchNormGradV2", "FusedBatchNormGradV3"),
    *("ResizeNearestNeighborGrad", "Dilation2DBackpropInput", "Dilation2DBackpropFilter"),
}
"""Operations that TensorFlow 2.21 may refuse to run on a GPU where they must be deterministic."""
STAYS = 4

pytestmark = pytest.mark.usefixtures("pretended_gpu")


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Operations must be deterministic during a test."""
    tf.config.experimental.enable_op_determinism()
    yield
    disable_op_determinism()


def _operations(model: keras.Model, precision: str) -> list[Any]:
    """All nodes of the graph of training steps, also those in functions that it calls."""
    optimizer = AdamWithL2(1e-3)
    if precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    config: Any = SimpleNamespace(task=MORTALITY.name, seed=0, input_dropout=0.1, batch_size=STAYS)
    steps = Steps(model, optimizer, config, stays=STAYS)
    call = (
        tf.zeros([1, STAYS, *model.input_shape[1:]]),
        tf.zeros([1, STAYS], tf.int64),
        tf.ones([1, STAYS]),
    )
    batches = iter(tf.data.Dataset.from_tensors(call))
    definition = steps._run.get_concrete_function(
        batches, tf.constant(0), tf.constant(1)
    ).graph.as_graph_def()
    return [*definition.node, *(node for part in definition.library.function for node in part.node_def)]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_cudnn_runs_all_time_steps_of_a_layer_at_once(
    name: str, precision: str, build: Callable[..., keras.Model]
) -> None:
    nodes = _operations(build(name, precision), precision)
    kernels = [node for node in nodes if node.op.startswith("CudnnRNN")]
    names = [node.op for node in kernels]
    assert names.count("CudnnRNNV3") == names.count("CudnnRNNBackpropV3") == CUDNN.get(name, 0)
    assert {tf.as_dtype(node.attr["T"].type) for node in kernels} <= {PRECISIONS[precision]}
    # The only loop is that over the training steps.
    assert [node.op for node in nodes if node.op.endswith("While")] == ["While"]


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("name", NETWORKS)
def test_no_operation_is_refused_where_operations_must_be_deterministic(
    name: str, build: Callable[..., keras.Model]
) -> None:
    assert not REFUSED & {node.op for node in _operations(build(name), "float32")}
