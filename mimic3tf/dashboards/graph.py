"""The victim's layers for the GRAPHS page.

A layer is a namespace of one node there: a box that holds its name. The page writes the name of a bare node
above it, where the edges run and their shapes stand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from tensorboard.compat.proto.attr_value_pb2 import AttrValue
from tensorboard.compat.proto.graph_pb2 import GraphDef


def layer_graph(model: keras.Model) -> GraphDef:
    """A box a layer; in it a node with its class, its output's shape and its number of weights.

    TensorBoard's own reader of Keras models fails where an operation takes a number, as slices do, and
    shows neither shapes nor weights.
    """
    graph = GraphDef()
    operations = {operation.name: operation for operation in model.operations}
    for described in model.get_config()["layers"]:
        layer = operations[described["name"]]
        node = graph.node.add(name=_name(layer), op=type(layer).__name__)
        # A layer's operands come once each, in order.
        operands = dict.fromkeys(_operands(described["inbound_nodes"]))
        node.input.extend(_name(operations[operand]) for operand in operands)
        node.attr["weights"].i = layer.count_params() if isinstance(layer, keras.Layer) else 0
        # A split has several.
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
    """Names of the layers whose outputs a description of arguments mentions."""
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
