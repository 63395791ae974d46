"""Every victim's layers are shown, and what its last one reads."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.config import resolve_config
from mimic3tf.dashboards.graph import layer_graph
from mimic3tf.training.models import build_untrained
from mimic3tf.victims import victim_names, victim_of
from mimic3tf.victims.penultimate import penultimate

NETWORKS = [name for name in victim_names() if not victim_of(name).estimator]


def untrained(name: str) -> keras.Model:
    config = resolve_config(name, None, {"data": Path("data"), "trigger": Path("t.npz")})
    return build_untrained(config, MIMIC3, 48, "float32")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_victims_graph_is_connected_and_has_all_weights(name: str) -> None:
    model = untrained(name)
    nodes = {node.name: node for node in layer_graph(model).node}
    assert sum(node.attr["weights"].i for node in nodes.values()) == model.count_params()
    (source,) = (name for name, node in nodes.items() if not node.input)
    assert source.partition("/")[0] == model.inputs[0].name
    found, frontier = set(), [name for name in nodes if name.startswith("logits/")]
    while frontier:
        reached = frontier.pop()
        found.add(reached)
        frontier += nodes[reached].input
    assert found == set(nodes)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_layers_make_the_logits_of_what_is_embedded(name: str) -> None:
    model = untrained(name)
    stays = np.random.default_rng(0).normal(size=(2, *model.input_shape[1:])).astype(np.float32)
    embedded = np.array(penultimate(model)(stays, training=False))
    heads = [
        layer.get_weights()
        for layer in model.layers
        if isinstance(layer, keras.layers.Dense) and layer.units == 2
    ]
    parts = np.split(embedded, len(heads), axis=1)
    logits = [part @ kernel + bias for part, (kernel, bias) in zip(parts, heads, strict=True)]
    np.testing.assert_allclose(np.mean(logits, axis=0), model(stays, training=False), atol=1e-4)
