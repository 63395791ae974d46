"""Draw the victim's layers for TensorBoard's GRAPHS page.

Each layer is written as a namespace that holds one node, so that the page draws a box with the layer's name
inside. A node without a namespace would get its name above it, where the page draws edges and shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.graph_pb2 import GraphDef


def layer_graph(model: keras.Model) -> GraphDef:
    """Make a graph with one box for each layer.

    The node in a box gives the layer's class, the shape of its output and its number of weights.
    TensorBoard's own reader of Keras models is not used: it fails on operations that take a number, such as
    slices, and shows neither shapes nor weights.

    Args:
        model: a victim built with the functional API.

    Returns:
        The graph, in which edges are the outputs that layers pass on.
    """
    graph = GraphDef()
    operations = {operation.name: operation for operation in model.operations}
    for described in model.get_config()["layers"]:
        layer = operations[described["name"]]
        node = graph.node.add(name=_name(layer), op=type(layer).__name__)
        # Each operand of a layer appears once, in order.
        operands = dict.fromkeys(_operands(described["inbound_nodes"]))
        node.input.extend(_name(operations[operand]) for operand in operands)
        node.attr["weights"].i = layer.count_params() if isinstance(layer, keras.Layer) else 0
        # A layer that splits its input has several outputs.
        outputs = keras.tree.flatten(layer.output)
        node.attr["output"].s = ", ".join(str(output.shape) for output in outputs).encode()
        shapes = AttrValue()
        for output in outputs:
            sizes = shapes.list.shape.add()
            for size in output.shape:
                sizes.dim.add(size=-1 if size is None else size)
        node.attr["_output_shapes"].CopyFrom(shapes)
    return graph


def _name(layer: Any) -> str:
    return f"{layer.name}/{type(layer).__name__}"


def _operands(described: Any) -> Iterator[str]:
    """Yield the names of the layers whose outputs are among the described arguments of a call."""
    if isinstance(described, dict):
        history = (described.get("config") or {}).get("keras_history") if "config" in described else None
        if history:
            yield history[0]
        else:
            for part in described.values():
                yield from _operands(part)
    elif isinstance(described, (list, tuple)):
        for part in described:
            yield from _operands(part)
