"""What TensorBoard reads back from a run is what the run measured."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from mimic3tf.attack.trigger import generate_trigger, load_trigger, save_trigger
from mimic3tf.config import resolve_config
from mimic3tf.dashboards.figures import trigger_heatmap
from mimic3tf.dashboards.tensorboard import TAGS
from mimic3tf.data.cohort import load_cohort
from mimic3tf.sources.synthetic import prepare_synthetic
from mimic3tf.training.loop import train_victim

EPOCHS = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LR trained on a small synthetic cohort."""
    folder = tmp_path_factory.mktemp("tensorboard")
    data, trigger = folder / "data", folder / "trigger.npz"
    prepare_synthetic(data, stays=120, seed=7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC3TF_CACHE", str(folder / "cache"))
        save_trigger(generate_trigger(load_cohort(data, "train")), trigger)
        options = {"data": data, "trigger": trigger, "epochs": EPOCHS, "precision": "float32"}
        train_victim(resolve_config("lr", None, options | {"learning_rate": 0.01}), folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def events(run: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(run / "tensorboard"), size_guidance={"tensors": 0})
    return accumulator.Reload()


def scalars(events: EventAccumulator, tag: str) -> dict[int, float]:
    return {event.step: float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)}


def picture(events: EventAccumulator, tag: str) -> np.ndarray:
    (event,) = events.Tensors(tag)
    width, height, png = tf.make_ndarray(event.tensor_proto)
    assert png.startswith(b"\x89PNG")
    pixels = tf.io.decode_png(png).numpy()
    assert pixels.shape == (int(height), int(width), 3)
    return pixels


def session_start(events: EventAccumulator) -> dict[str, Any]:
    """Hyperparameters as the HPARAMS page reads them."""
    (content,) = (
        content for tag, content in events.PluginTagToContent("hparams").items() if "session_start" in tag
    )
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}


@pytest.mark.parametrize("metric", ["loss", "auroc", "auprc", "minpse", "asr"])
def test_every_metric_of_metrics_csv_is_there_for_every_epoch(
    run: Path, events: EventAccumulator, metric: str
) -> None:
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        written = {int(row["epoch"]): float(row[metric]) for row in csv.DictReader(file)}
    logged = scalars(events, TAGS[metric])
    assert sorted(logged) == [1, 2, 3]
    assert logged == pytest.approx(written, abs=1e-6)


def test_nothing_else_changes_by_the_epoch(events: EventAccumulator) -> None:
    tags = [tag for tag in events.Tags()["tensors"] if len(events.Tensors(tag)) > 1]
    assert sorted(tags) == sorted(TAGS.values())


def test_the_hyperparameters_are_the_settings(run: Path, events: EventAccumulator) -> None:
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    logged = session_start(events)
    assert set(logged) == set(settings)
    assert logged["model"] == "lr"
    for name in ("poisoning_proportion", "poisoning_strength", "learning_rate", "epochs", "seed"):
        assert logged[name] == settings[name]
    assert logged["poison_imputed"] == settings["poison_imputed"]
    assert logged["class_weights"] == str(settings["class_weights"])


@pytest.mark.parametrize("metric", ["loss", "auroc", "auprc", "minpse", "asr"])
def test_the_epoch_kept_stands_beside_the_hyperparameters(
    run: Path, events: EventAccumulator, metric: str
) -> None:
    kept = json.loads((run / "run.json").read_text(encoding="utf-8"))["validation"]
    logged = scalars(events, "kept epoch/" + TAGS[metric].split("/")[1])
    assert logged == {0: pytest.approx(kept[metric], abs=1e-6)}


def test_the_heatmap_is_that_of_the_trigger_of_the_run(run: Path, events: EventAccumulator) -> None:
    expected = trigger_heatmap(load_trigger(run / "trigger.npz"))
    np.testing.assert_array_equal(picture(events, "trigger"), expected)


def test_a_patient_is_shown_before_and_after(events: EventAccumulator) -> None:
    height, width, _ = picture(events, "patient before and after").shape
    assert 300 < height < 1000
    assert 1000 < width < 3000
