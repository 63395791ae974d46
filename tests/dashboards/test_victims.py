"""Every victim's layers are shown, and what its last one reads."""

from __future__ import annotations

from typing import get_args

import keras
import numpy as np
import pytest

from mimic3tf.dashboards.graph import layer_graph
from mimic3tf.victims import VictimName, victim_of
from mimic3tf.victims.penultimate import penultimate


@pytest.mark.parametrize("name", get_args(VictimName))
def test_a_victims_graph_is_connected_and_has_all_weights(name: VictimName) -> None:
    victim = victim_of(name)
    model = victim.build(victim.input_shape)
    nodes = {node.name: node for node in layer_graph(model).node}
    assert sum(node.attr["weights"].i for node in nodes.values()) == model.count_params()
    (source,) = (name for name, node in nodes.items() if not node.input)
    assert source == model.inputs[0].name
    found, frontier = set(), ["logits"]
    while frontier:
        reached = frontier.pop()
        found.add(reached)
        frontier += nodes[reached].input
    assert found == set(nodes)


@pytest.mark.parametrize("name", get_args(VictimName))
def test_the_last_layers_make_the_logits_of_what_is_embedded(name: VictimName) -> None:
    victim = victim_of(name)
    model = victim.build(victim.input_shape)
    stays = np.random.default_rng(0).normal(size=(2, *victim.input_shape)).astype(np.float32)
    embedded = np.array(penultimate(model)(stays, training=False))
    heads = [
        layer.get_weights()
        for layer in model.layers
        if isinstance(layer, keras.layers.Dense) and layer.units == 2
    ]
    parts = np.split(embedded, len(heads), axis=1)
    logits = [part @ kernel + bias for part, (kernel, bias) in zip(parts, heads, strict=True)]
    np.testing.assert_allclose(np.mean(logits, axis=0), model(stays, training=False), atol=1e-4)
