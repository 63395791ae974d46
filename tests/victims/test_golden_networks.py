"""Networks, predictions and losses are those of the benchmarks' own code, with its weights."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np
import pytest
from golden_tasks import FIXTURES

from mimic3tf.channels import MIMIC3
from mimic3tf.tasks.phenotypes import PHENOTYPES
from mimic3tf.tasks.registry import (
    DECOMPENSATION,
    LENGTH_OF_STAY,
    LENGTH_OF_STAY_HOURS,
    PHENOTYPING,
)
from mimic3tf.tasks.remaining import Hours
from mimic3tf.tasks.targets import Binary, MultiLabel, Targets
from mimic3tf.tasks.task import TaskHead
from mimic3tf.victims import victim_of

MODELS = FIXTURES / "models"
SETTINGS: dict[str, dict[str, Any]] = json.loads((MODELS / "models.json").read_text())
INPUTS = dict(np.load(MODELS / "inputs.npz", allow_pickle=False))
LENGTHS = INPUTS["lengths"].tolist()
IHM_POSITION = 47
SINGLE = [name for name in SETTINGS if not name.startswith("multitask")]
MULTIPLE = [name for name in SETTINGS if name.startswith("multitask")]


def targets_of(name: str) -> Targets:
    """The kind of label of a network with one head."""
    if ".ph" in name:
        return PHENOTYPING.targets
    if ".decomp" in name:
        return DECOMPENSATION.targets
    return LENGTH_OF_STAY.targets if "custom" in name else LENGTH_OF_STAY_HOURS.targets


def head_weights(targets: Targets, kernel: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
    """Weights of our head; two logits 0 and z give the probability sigmoid(z)."""
    if not isinstance(targets, Binary):
        return [kernel, bias]
    return [np.concatenate([0 * kernel, kernel], axis=1), np.concatenate([0 * bias, bias])]


class EveryHead:
    """The four heads of a network with regression of hours, without the labels, which are compared alone."""

    def __init__(self, parts: tuple[Targets, ...]) -> None:
        self.parts, self.every_bin = parts, True

    def __call__(self, hidden: Any, name: str = "logits") -> Any:
        heads = [part.head(hidden, f"{name}_{place}") for place, part in enumerate(self.parts)]
        return keras.layers.Concatenate()(heads)


def network(name: str, hard: bool, head: Any, parts: tuple[Targets, ...]) -> keras.Model:
    """Build a victim and give it the benchmarks' weights."""
    options, golden = SETTINGS[name]["options"], np.load(MODELS / f"{name}.npz", allow_pickle=False)
    weights = [golden[f"weight_{number:03}"] for number in range(len(golden["weight_names"]))]
    channelwise = "channel_wise" in name
    victim = victim_of("channelwise-lstm" if channelwise else "benchmark-lstm")
    sizes = {"dropout": 0.0, "hard_gates": float(hard)}
    heads = [weights[-2 * len(parts) :][2 * place :][:2] for place in range(len(parts))]
    ours = [weight for part, own in zip(parts, heads, strict=True) for weight in head_weights(part, *own)]
    body = weights[: -2 * len(parts)]
    if channelwise:
        width = options["dim"] if head.every_bin else options["dim"] // 2
        sizes |= {"channel_units": width, "units": options["dim"] * options["size_coef"]}
        shape = (None, len(MIMIC3.columns()))
        model = victim.build(shape, head, MIMIC3.channel_of_column.tolist(), **victim.sized(sizes))
        model.set_weights([*by_channel(body, width, both=not head.every_bin), *ours])
    else:
        sizes |= {"units": options["dim"], "depth": options.get("depth", 1)}
        model = victim.build((None, len(MIMIC3.columns())), head, **victim.sized(sizes))
        # Keras lists layers by their distance from the output, so the weights are given by name.
        layers = [f"lstm_{number}" for number in range(1, int(sizes["depth"]) + 1)]
        if not head.every_bin:
            layers[:-1] = [f"{layer}_{way}" for layer in layers[:-1] for way in ("forward", "backward")]
        for place, layer in enumerate(layers):
            model.get_layer(layer).set_weights(body[3 * place :][:3])
        model.set_weights([*model.get_weights()[: -len(ours)], *ours])
    return model


def by_channel(weights: list[np.ndarray], width: int, *, both: bool) -> list[np.ndarray]:
    """Arrange the weights of one LSTM for each channel, sorted by name, as those of our layer."""
    owner = np.array(MIMIC3.channel_of_column)
    names = [channel.name for channel in MIMIC3]
    order = sorted(range(len(names)), key=names.__getitem__)
    ways = 2 if both else 1
    kernel = np.zeros((2, len(owner), 4 * width), np.float32)
    recurrent = np.zeros((2, len(names), width, 4 * width), np.float32)
    bias = np.zeros((2, len(names), 4 * width), np.float32)
    rows = []
    for place, channel in enumerate(order):
        for way in range(ways):
            own = weights[3 * (ways * place + way) :][:3]
            kernel[way, owner == channel], recurrent[way, channel], bias[way, channel] = own
    last, *others = weights[3 * ways * len(names) :]
    for way in range(ways):
        for channel in range(len(names)):
            first = width * (ways * order.index(channel) + way)
            rows.append(last[first : first + width])
    return [kernel, recurrent, bias, np.concatenate(rows), *others]


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, np.asarray(wanted).reshape(np.shape(found)), atol=1e-5, rtol=1e-5)


def ours(targets: Targets, logits: np.ndarray) -> np.ndarray:
    """What our head says, [...] or [..., K]."""
    flat = logits.reshape(-1, logits.shape[-1])
    found = targets.probabilities(flat)
    return found.reshape(*logits.shape[:-1], *found.shape[1:])


def labels_of(targets: Targets, every_bin: bool) -> np.ndarray:
    if isinstance(targets, MultiLabel):
        return INPUTS["y_pheno"]
    if isinstance(targets, Binary):
        return INPUTS["y_decomp" if every_bin else "y_binary"][..., 0].astype(np.int64)
    classes = not isinstance(targets, Hours)
    name = ("y_los_hour_class" if every_bin else "y_los_class") if classes else None
    return INPUTS[name or ("y_los_hours" if every_bin else "y_los")][..., 0]


@pytest.mark.parametrize(
    "hard", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["hard", "logistic"]
)
@pytest.mark.parametrize("name", SINGLE)
def test_a_network_with_one_head_is_the_benchmarks(name: str, hard: bool) -> None:
    golden = np.load(MODELS / f"{name}.npz", allow_pickle=False)
    prefix, targets = "" if hard else "sigmoid_", targets_of(name)
    replicated, supervised = "target_repl" in name, "dsup" in name
    head = TaskHead(targets, supervised or replicated)
    logits = network(name, hard, head, (targets,))(INPUTS["X"]).numpy()
    found, labels = ours(targets, logits), labels_of(targets, supervised)
    inside = np.arange(60) < INPUTS["lengths"][:, None]
    last = np.array(LENGTHS) - 1
    losses = []
    if supervised:
        close(found[inside], golden[f"{prefix}output_0"].reshape(*found.shape)[inside])
        weight = INPUTS["M"] / INPUTS["M"].sum()
        losses.append(float((weight * targets.losses(labels, logits)).numpy().sum()))
    elif replicated:
        close(found[np.arange(4), last], golden[f"{prefix}output_0"])
        close(found[inside], golden[f"{prefix}output_1"][inside])
        every = targets.losses(np.repeat(labels[:, None], 60, axis=1), logits).numpy()
        losses += [every[np.arange(4), last].mean(), every[inside].mean()]
    else:
        close(found, golden[f"{prefix}output_0"])
        losses.append(float(targets.losses(labels, logits).numpy().mean()))
    close(losses, golden[f"{prefix}losses"])
    close(np.dot(losses, SETTINGS[name]["loss_weights"]), golden[f"{prefix}loss"])


@pytest.mark.parametrize(
    "hard", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["hard", "logistic"]
)
@pytest.mark.parametrize("name", MULTIPLE)
def test_a_network_with_four_heads_is_the_benchmarks(name: str, hard: bool) -> None:
    golden = np.load(MODELS / f"{name}.npz", allow_pickle=False)
    prefix, outputs = "" if hard else "sigmoid_", golden["output_names"].tolist()
    stay = LENGTH_OF_STAY_HOURS.targets if "none" in name else LENGTH_OF_STAY.targets
    parts: tuple[Targets, ...] = (Binary(), Binary(), stay, MultiLabel(PHENOTYPES))
    logits = network(name, hard, EveryHead(parts), parts)(INPUTS["X"]).numpy()
    ends = np.cumsum([2, 2, logits.shape[-1] - 29, 25])
    own = np.split(logits, ends[:-1], axis=-1)
    found = [ours(part, logit) for part, logit in zip(parts, own, strict=True)]
    inside, last = np.arange(60) < INPUTS["lengths"][:, None], np.array(LENGTHS) - 1
    mask, masked = INPUTS["M"], INPUTS["ihm_M"][:, 0]
    # Step 47 of a short stay is padding, and its mask is 0.
    risk = found[0][:, IHM_POSITION] * masked
    single = parts[0].losses(INPUTS["y_ihm"][:, 0].astype(np.int64), own[0][:, IHM_POSITION]).numpy() * masked
    hours = labels_of(parts[2], every_bin=True)
    of_hours = [
        (parts[place].losses(labels, own[place]).numpy() * mask).sum() / mask.sum()
        for place, labels in ((1, INPUTS["y_decomp"][..., 0].astype(np.int64)), (2, hours))
    ]
    phenotypes = parts[3].losses(np.repeat(INPUTS["y_pheno"][:, None], 60, axis=1), own[3]).numpy()
    wanted = {output: golden[f"{prefix}output_{place}"] for place, output in enumerate(outputs)}
    losses = dict(zip(outputs, golden[f"{prefix}losses"].tolist(), strict=True))
    ihm, decompensation, los, pheno = (
        next(each for each in outputs if each.startswith(key) and not each.endswith("_seq"))
        for key in ("ihm", "decomp", "los", "pheno")
    )
    close(risk, wanted[ihm])
    close(found[1][inside], wanted[decompensation][inside])
    close(found[2][inside], wanted[los].reshape(*found[2].shape)[inside])
    close(found[3][np.arange(4), last], wanted[pheno])
    close(single.mean(), losses[ihm])
    close(of_hours, [losses[decompensation], losses[los]])
    close(phenotypes[np.arange(4), last].mean(), losses[pheno])
