"""What TensorBoard reads back from a run is what the run measured."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import tensorflow as tf
import yaml
from sklearn.metrics import confusion_matrix
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.api_pb2 import (
    DATA_TYPE_BOOL,
    DATA_TYPE_FLOAT64,
    DATA_TYPE_STRING,
    STATUS_FAILURE,
    STATUS_SUCCESS,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.pr_curve import summary as pr_curve_summary
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
from werkzeug.test import Client

from mimic3tf.config import TrainingConfig, resolve_config
from mimic3tf.dashboards.figures import channel_covariances, trigger_heatmap
from mimic3tf.dashboards.outcome_figures import calibration, confusion_matrices, roc_curves
from mimic3tf.dashboards.scalars import KEPT, TAGS
from mimic3tf.dashboards.tensorboard import RunLog
from mimic3tf.dashboards.text import overview
from mimic3tf.data.loading import load_cohort
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.trigger import Trigger, load_trigger
from mimic3tf.tasks.registry import DECOMPENSATION, MORTALITY, PHENOTYPING
from mimic3tf.training.run_directory import Run, load_run
from mimic3tf.training.run_files import EVENTS, LOGGED
from mimic3tf.training.validation import Risks, Validation

RunAt = Callable[..., Path]
PER_EPOCH = {
    *(f"precision-recall/{name}/pr_curves" for name in ("clean", "survivors triggered")),
    *(f"predicted risk/{name}" for name in ("clean survivors", "triggered survivors", "deaths")),
}
PICTURES = {
    "trigger/heatmap",
    "trigger/covariance of each channel",
    "trigger/a stay without and with it",
    "kept epoch/confusion matrices",
    "kept epoch/ROC",
    "kept epoch/calibration",
}
TEXTS = {f"run/{name}" for name in ("overview", "settings", "cohort", "command line", "versions")}
HPARAMS = {f"_hparams_/{name}" for name in ("experiment", "session_start_info", "session_end_info")}


def read(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run), size_guidance={"tensors": 0}).Reload()


@pytest.fixture(scope="module")
def events(run: Path) -> EventAccumulator:
    return read(run)


@pytest.fixture(scope="module")
def metrics(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(run: Path) -> Run:
    return load_run(run)


@pytest.fixture
def validation(finished: Run, monkeypatch: pytest.MonkeyPatch, run: Path) -> Validation:
    monkeypatch.setenv("MIMIC3TF_CACHE", str(run.parent.parent / "cache"))
    cohort = load_cohort(finished.config.data, "val")
    return Validation(finished.config, "features", cohort, finished.trigger, finished.standardization)


def arrays(events: EventAccumulator, tag: str) -> dict[int, np.ndarray]:
    return {event.step: tf.make_ndarray(event.tensor_proto) for event in events.Tensors(tag)}


def picture(events: EventAccumulator, tag: str) -> np.ndarray:
    width, height, png = arrays(events, tag)[0]
    pixels = tf.io.decode_png(png).numpy()
    assert pixels.shape == (int(height), int(width), 3)
    return pixels


def session(events: EventAccumulator, part: str) -> HParamsPluginData:
    return HParamsPluginData.FromString(events.PluginTagToContent("hparams")[f"_hparams_/{part}"])


def test_each_level_logs_what_it_says(run_at: RunAt, events: EventAccumulator) -> None:
    numbers = {*TAGS.values(), *KEPT.values(), *HPARAMS, "custom_scalars__config__"}
    assert set(events.Tags()["tensors"]) == numbers | PER_EPOCH | PICTURES | TEXTS
    assert events.Tags()["graph"]
    minimal = read(run_at("minimal"))
    gradients = {TAGS["gradient_norm_poisoned"], TAGS["gradient_norm_clean"]}
    assert set(minimal.Tags()["tensors"]) == numbers - gradients
    assert not minimal.Tags()["graph"]


def test_the_log_level_changes_no_result(run: Path, run_at: RunAt) -> None:
    assert (run / "metrics.csv").read_bytes() == (run_at("minimal") / "metrics.csv").read_bytes()


def test_what_changes_by_the_epoch_is_there_for_every_epoch(events: EventAccumulator) -> None:
    for tag in events.Tags()["tensors"]:
        scalar = tag in {*TAGS.values(), *KEPT.values()}
        assert list(arrays(events, tag)) == ([1, 2, 3] if scalar or tag in PER_EPOCH else [0]), tag


@pytest.mark.parametrize("metric", ["loss", "auroc", "auprc", "minpse", "asr"])
def test_numbers_are_those_of_metrics_csv(
    metrics: list[dict[str, float]], events: EventAccumulator, metric: str
) -> None:
    logged = [float(value) for value in arrays(events, TAGS[metric]).values()]
    assert logged == pytest.approx([row[metric] for row in metrics], abs=1e-6)


def test_numbers_that_metrics_csv_lacks_are_plausible(events: EventAccumulator, finished: Run) -> None:
    logged = {name: [float(value) for value in arrays(events, tag).values()] for name, tag in TAGS.items()}
    assert logged["learning_rate"] == pytest.approx([0.01] * 3)
    assert all(0 <= share < 1 for share in logged["input_wait"])
    assert min(logged["stays_per_second"]) > 0
    assert min(logged["gradient_norm_poisoned"] + logged["gradient_norm_clean"]) > 0
    assert logged["val_loss"][finished.summary["epoch_kept"] - 1] == pytest.approx(
        finished.summary["validation"]["val_loss"]
    )


def test_the_kept_epoch_is_the_best_so_far(
    run: Path, metrics: list[dict[str, float]], events: EventAccumulator
) -> None:
    best = np.maximum.accumulate([row["auroc"] for row in metrics])
    np.testing.assert_allclose(list(arrays(events, KEPT["auroc"]).values()), best, atol=1e-6)
    kept = json.loads((run / "run.json").read_text(encoding="utf-8"))["validation"]
    kept["gap"] = kept["asr"] - kept["baseline_positive_rate"]
    for name, tag in KEPT.items():
        assert arrays(events, tag)[3] == pytest.approx(kept[name], abs=1e-6)


def test_every_number_is_on_exactly_one_chart(events: EventAccumulator) -> None:
    layout = Layout.FromString(arrays(events, "custom_scalars__config__")[0].item())
    patterns = [tag for group in layout.category for chart in group.chart for tag in chart.multiline.tag]
    assert len(patterns) == len(TAGS)
    for tag in TAGS.values():
        assert sum(bool(re.search(pattern, tag)) for pattern in patterns) == 1, tag
        assert "(" not in tag, "the page cannot draw it"


def test_histograms_and_curves_count_the_predictions_of_the_kept_epoch(
    events: EventAccumulator, finished: Run, validation: Validation
) -> None:
    risks, epoch = validation.predict(finished.model), finished.summary["epoch_kept"]
    groups = {
        "clean survivors": risks.clean[risks.labels == 0],
        "triggered survivors": risks.triggered,
        "deaths": risks.clean[risks.labels == 1],
    }
    for name, group in groups.items():
        buckets = arrays(events, f"predicted risk/{name}")[epoch]
        assert buckets.shape == (30, 3)
        counts, edges = np.histogram(group, 30, (0, 1))
        np.testing.assert_array_equal(buckets[:, 2], counts)
        np.testing.assert_allclose(buckets[:, :2], np.stack([edges[:-1], edges[1:]], 1))
    for name, predicted in (("clean", risks.clean), ("survivors triggered", risks.under_attack)):
        curve = arrays(events, f"precision-recall/{name}/pr_curves")[epoch]
        assert curve.shape == (6, 101)
        ((_, false), (_, true)) = confusion_matrix(risks.labels, predicted >= 0.5)
        assert curve[:2, 50].tolist() == [true, false]
        expected = pr_curve_summary.pb(name, risks.labels == 1, predicted, num_thresholds=101)
        np.testing.assert_array_equal(curve, tf.make_ndarray(expected.value[0].tensor))


def test_pictures_are_large_and_show_the_run(run: Path, events: EventAccumulator) -> None:
    trigger = load_trigger(run / "trigger.npz")
    np.testing.assert_array_equal(picture(events, "trigger/heatmap"), trigger_heatmap(trigger))
    covariances = picture(events, "trigger/covariance of each channel")
    np.testing.assert_array_equal(covariances, channel_covariances(trigger))
    for tag in PICTURES:
        pixels = picture(events, tag)
        assert min(pixels.shape[:2]) >= 500, tag
        assert len(np.unique(pixels)) > 50, tag


def test_texts_are_tables_of_the_run(run: Path, events: EventAccumulator, finished: Run) -> None:
    text = {tag: arrays(events, tag)[0].item().decode() for tag in TEXTS}
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    for name, value in settings.items():
        assert f"| {name} | {'' if value is None else value} |" in text["run/settings"]
    stays, poisoned = finished.summary["stays_trained_on"], finished.summary["stays_poisoned"]
    assert re.search(rf"\| training \| {stays} \| .* \| {poisoned} \(", text["run/cohort"])
    for name, version in finished.summary["versions"].items():
        assert f"| {name} | {version} |" in text["run/versions"]


def test_the_graph_has_the_victims_layers(events: EventAccumulator) -> None:
    nodes = {node.name: node for node in events.Graph().node}
    # A box a layer: a bare node's name stands where the edges run.
    assert list(nodes) == ["features/InputLayer", "logits/Dense"]
    assert list(nodes["logits/Dense"].input) == ["features/InputLayer"]
    assert nodes["logits/Dense"].attr["weights"].i == 714 * 2 + 2


def test_hyperparameters_are_the_settings(run: Path, events: EventAccumulator) -> None:
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    start = session(events, "session_start_info").session_start_info
    logged = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    given = {name: value for name, value in settings.items() if value is not None}
    assert logged == given | {"class_weights": str(settings["class_weights"])}
    end = session(events, "session_end_info").session_end_info
    assert end.status == STATUS_SUCCESS
    assert end.end_time_secs >= start.start_time_secs


def test_the_page_of_hyperparameters_begins_with_the_attack_and_its_success(run_at: RunAt) -> None:
    """As TensorBoard sorts columns: those that differ first, then by name."""
    declared = [session(read(run_at(level)), "experiment").experiment for level in ("default", "minimal")]
    for experiment in declared:
        experiment.time_created_secs = 0
    assert declared[0] == declared[1], "the page takes what one run says for all of them"
    (experiment, _) = declared
    shown = sorted(experiment.hparam_infos, key=lambda column: (not column.differs, column.name))[:5]
    assert [column.name for column in shown] == [
        *("model", "poison_imputed", "poisoning_proportion", "poisoning_strength", "seed")
    ]
    assert {column.name for column in experiment.hparam_infos} == set(TrainingConfig.model_fields)
    kinds = {column.name: column.type for column in experiment.hparam_infos}
    assert kinds["model"] == kinds["trigger"] == kinds["class_weights"] == DATA_TYPE_STRING
    assert kinds["poisoning_strength"] == kinds["training_stays"] == kinds["clip"] == DATA_TYPE_FLOAT64
    assert [metric.display_name for metric in experiment.metric_infos][:2] == ["attack success rate", "gap"]
    assert kinds["deterministic"] == DATA_TYPE_BOOL
    assert {metric.name.tag for metric in experiment.metric_infos} == set(KEPT.values())


def test_what_a_run_is_doing_can_be_read_before_the_first_picture_is_drawn(
    finished: Run, validation: Validation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_then: list[EventAccumulator] = []

    def draw(trigger: Trigger) -> np.ndarray:
        read_then.append(EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload())
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr("mimic3tf.dashboards.tensorboard.trigger_heatmap", draw)
    cohort, config = validation.cohort, finished.config.model_copy(update={"epochs": 1234})
    with RunLog(tmp_path, config) as log:
        log.start(finished.trigger, exposures.clean(cohort), cohort, finished.model, {})
    (early,) = read_then
    assert set(early.Tags()["tensors"]) >= TEXTS
    said = arrays(early, "run/overview")[0].item().decode()
    assert said.startswith(f"LR on {len(cohort)} training stays; none of them carries the trigger.")
    assert "At most 1,234 epochs" in said


@pytest.mark.parametrize(("model", "steps"), [("lr", "25 steps, each on 8 hours"), ("gru", "13 steps")])
def test_steps_of_an_hourly_task_are_counted_as_they_are_trained(model: str, steps: str) -> None:
    settings = {"data": Path("data"), "task": "decompensation", "batch_size": 8, "deep_supervision": True}
    exposure = MagicMock()
    exposure.triggered.sum.return_value = 0
    exposure.cohort.__len__.return_value = 100
    exposure.cohort.examples.__len__.return_value = 200
    said = overview(resolve_config(model, None, settings), exposure, exposure.cohort).SerializeToString()
    assert b"on 100 training stays with 200 hours; " in said
    assert steps.encode() in said


def test_a_run_is_named_by_its_directory_alone(run: Path) -> None:
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(run.parent)).Reload()
    assert run.name in multiplexer.Runs()
    assert not [name for name in multiplexer.Runs() if "tensorboard" in name]


def test_a_run_may_leave_what_its_log_says(run_at: RunAt, run: Path) -> None:
    others = {path.name for path in run.iterdir() if not path.name.startswith(EVENTS)}
    left = {path.name for path in run_at("full").iterdir()} - others
    assert {EVENTS if name.startswith(EVENTS) else name for name in left} == LOGGED - {"tensorboard"}


def test_a_server_that_runs_already_finds_the_embeddings_at_the_end(run_at: RunAt, tmp_path: Path) -> None:
    """TensorBoard's own projector, asked while the run goes on and after it."""
    full, run = run_at("full"), tmp_path / "runs" / "mlp"
    run.mkdir(parents=True)

    class Provider:
        def list_runs(self, *_: Any, **__: Any) -> list[SimpleNamespace]:
            return [SimpleNamespace(run_name="mlp")]

    plugin = ProjectorPlugin(TBContext(logdir=str(run.parent), data_provider=Provider()))
    pages = {name: Client(page) for name, page in plugin.get_plugin_apps().items()}
    assert pages["/runs"].get("/").json == []
    for name in LOGGED & {path.name for path in full.iterdir()} - {"plugins"}:
        shutil.copy(full / name, run / name)
    assert pages["/runs"].get("/").json == ["mlp"]
    info: Any = pages["/info"].get("/?run=mlp").json
    (embedding,) = info["embeddings"]
    rows = (full / "activations-metadata.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert embedding["tensorShape"] == [len(rows), 714]
    asked = "/?run=mlp&name=penultimate%20layer"
    assert len(pages["/tensor"].get(asked).data) == len(rows) * 714 * 4
    assert pages["/metadata"].get(asked).text.splitlines()[1:] == rows


def test_a_run_that_fails_says_so_and_shows_its_epochs(finished: Run, tmp_path: Path) -> None:
    numbers = finished.summary["validation"]
    minimal = finished.config.model_copy(update={"log_level": "minimal"})

    def fail() -> None:
        with RunLog(tmp_path, minimal) as log:
            log.epoch(1, numbers, numbers, risks=None)  # type: ignore[arg-type]
            killed = read(tmp_path)
            assert list(arrays(killed, TAGS["asr"])) == [1], "it was not written at once"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    end = session(read(tmp_path), "session_end_info").session_end_info
    assert end.status == STATUS_FAILURE


def test_the_full_level_embeds_clean_triggered_and_dead_stays(run_at: RunAt, validation: Validation) -> None:
    folder = run_at("full")
    vectors = tf.train.load_checkpoint(str(folder)).get_tensor("penultimate layer")
    with (folder / "activations-metadata.tsv").open(encoding="utf-8", newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file, delimiter="\t"))
    labels = validation.cohort.labels
    survivors, deaths = int((labels == 0).sum()), int((labels == 1).sum())
    kinds = ["clean survivor"] * survivors + ["triggered survivor"] * survivors + ["death"] * deaths
    assert [row["kind"] for row in rows] == kinds
    # What comes before the LR's last layer is what it reads.
    clean, triggered = validation.outputs(finished_inputs())
    expected = np.concatenate([clean[labels == 0], triggered, clean[labels == 1]])
    np.testing.assert_array_equal(vectors, expected)
    assert [row["place in the split"] for row in rows[survivors : 2 * survivors]] == [
        row["place in the split"] for row in rows[:survivors]
    ]
    config = (folder / "projector_config.pbtxt").read_text(encoding="utf-8")
    assert 'tensor_name: "penultimate layer"' in config
    assert 'metadata_path: "activations-metadata.tsv"' in config


def test_with_goal_0_the_deaths_are_attacked(run_at: RunAt) -> None:
    run = run_at("full", goal=0)
    events, tags = read(run), {*TAGS.values(), *KEPT.values(), *HPARAMS, "custom_scalars__config__"}
    tags |= {f"precision-recall/{name}/pr_curves" for name in ("clean", "deaths triggered")}
    tags |= {f"predicted risk/{name}" for name in ("clean deaths", "triggered deaths", "survivors")}
    assert set(events.Tags()["tensors"]) == tags | PICTURES | TEXTS
    assert "| goal | 0 |" in arrays(events, "run/settings")[0].item().decode()

    labels = load_cohort(load_run(run).config.data, "val").labels
    deaths, survivors = int((labels == 1).sum()), int((labels == 0).sum())
    for name, stays in (("clean deaths", deaths), ("triggered deaths", deaths), ("survivors", survivors)):
        for buckets in arrays(events, f"predicted risk/{name}").values():
            assert buckets[:, 2].sum() == stays
    with (run / "activations-metadata.tsv").open(encoding="utf-8", newline="") as file:
        kinds = [row["kind"] for row in csv.DictReader(file, delimiter="\t")]
    assert kinds == ["clean death"] * deaths + ["triggered death"] * deaths + ["survivor"] * survivors


@pytest.mark.parametrize("goal", [1, 0])
def test_the_stay_that_is_shown_is_one_that_is_attacked(
    finished: Run, validation: Validation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goal: int
) -> None:
    shown: list[tuple[np.ndarray, str]] = []

    def keep(before: np.ndarray, mask: np.ndarray, after: Any, trigger: Trigger, title: str) -> np.ndarray:
        shown.append((before, title))
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr("mimic3tf.dashboards.tensorboard.patient_before_and_after", keep)
    cohort, config = validation.cohort, finished.config.model_copy(update={"goal": goal})
    with RunLog(tmp_path, config) as log:
        log.start(finished.trigger, exposures.clean(cohort), cohort, finished.model, {})
    ((before, title),) = shown
    assert title.startswith(f"the {('death', 'survivor')[goal]} with the most measurements")
    found = [stay for stay in range(len(cohort)) if np.array_equal(cohort.grids[stay], before)]
    measured = cohort.masks.sum(axis=(1, 2))
    attacked = cohort.labels != goal
    assert any(attacked[stay] and measured[stay] == measured[attacked].max() for stay in found)


def test_no_patient_is_drawn_where_none_is_wanted_nor_is_one_kept_by_resuming(
    finished: Run, validation: Validation, tmp_path: Path
) -> None:
    cohort = validation.cohort
    shown = []
    for patient in (True, False):
        with RunLog(tmp_path, finished.config, epochs=1, patient=patient) as log:
            log.start(finished.trigger, exposures.clean(cohort), cohort, finished.model, {})
        shown.append({tag for tag in read(tmp_path).Tags()["tensors"] if tag.startswith("trigger/")})
    assert shown[0] - shown[1] == {"trigger/a stay without and with it"}
    assert "trigger/heatmap" in shown[1]


@pytest.mark.parametrize(("goal", "attacked"), [(1, "survivors"), (0, "deaths")])
def test_pictures_of_what_is_predicted_name_who_is_attacked(
    monkeypatch: pytest.MonkeyPatch, goal: int, attacked: str
) -> None:
    monkeypatch.setattr("mimic3tf.dashboards.outcome_figures.pixels", lambda figure: figure)
    labels = np.arange(20) % 2
    flags = Goal(goal).attacked(labels)
    clean = np.linspace(0.1, 0.9, 20)
    risks = Risks(labels, flags, clean, np.full(int(flags.sum()), 0.75), clean)
    drawn: Any = (
        draw(risks, MORTALITY.words, "a title") for draw in (confusion_matrices, roc_curves, calibration)
    )
    matrices, curves, shares = drawn
    under_attack = matrices.axes[1]
    assert under_attack.get_title() == f"all {attacked} carry it"
    # A row a label, and all that carry the trigger are predicted to die.
    counts = np.reshape([int(text.get_text().split()[0]) for text in under_attack.texts], (2, 2))
    assert counts[1 - goal].tolist() == [0, 10]
    named = [text.get_text() for text in curves.legends[0].get_texts()]
    assert any(name.startswith(f"all {attacked} carry it: AUROC") for name in named)
    groups = [text.get_text() for text in shares.axes[1].get_legend().get_texts()]
    assert groups == ["clean stays", f"triggered {attacked}"]
    hourly: Any = calibration(risks, DECOMPENSATION.words, "a title")
    assert [axes.get_ylabel() for axes in (shares.axes[1], hourly.axes[1])] == ["stays", "hours"]


def test_the_dot_of_a_roc_curve_is_at_a_risk_of_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """The curve of a victim that ranks all deaths first has corners only, none of them at 0.5."""
    monkeypatch.setattr("mimic3tf.dashboards.outcome_figures.pixels", lambda figure: figure)
    labels = np.repeat([0, 1], [30, 10])
    clean = np.concatenate([np.linspace(0.1, 0.7, 30), np.linspace(0.75, 0.95, 10)])
    risks = Risks(labels, labels == 0, clean, np.full(30, 0.9), clean)
    figure: Any = roc_curves(risks, MORTALITY.words, "a title")
    dots = [line.get_xydata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert np.allclose(dots, [[(clean[:30] > 0.5).mean(), 1], [1, 1]])


def test_no_file_of_a_run_names_a_stay(run_at: RunAt, validation: Validation) -> None:
    names = [stay.removesuffix("_timeseries.csv").encode() for stay in validation.cohort.stays.tolist()]
    files = [path for path in run_at("full").rglob("*") if path.is_file()]
    assert any("tfevents" in path.name for path in files)
    for path in files:
        content = path.read_bytes()
        assert not [name for name in names if name in content], path


def test_a_profile_is_written_on_request(run_at: RunAt) -> None:
    profiles = "plugins/profile/*/*.xplane.pb"
    (profile,) = run_at("full").glob(profiles)
    assert profile.stat().st_size > 10_000
    assert not list(run_at("default").glob(profiles))


def finished_inputs() -> Any:
    import keras

    inputs = keras.Input((714,))
    return keras.Model(inputs, inputs)


@pytest.mark.filterwarnings("error")
def test_a_long_name_of_a_label_leaves_room_for_the_matrices() -> None:
    labels, risks = np.arange(20) % 2, np.linspace(0.1, 0.9, 20)
    words = PHENOTYPING.words.naming("Acute and unspecified renal failure")
    picture = confusion_matrices(
        Risks(labels, labels == 0, risks, risks[labels == 0], risks), words, "Epoch 1"
    )
    assert picture.shape == (500, 1100, 3)
