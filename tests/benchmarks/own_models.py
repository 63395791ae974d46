"""Three models of a user's own, clean and poisoned: does the attack work on them, and does an audit notice?

    python tests/benchmarks/own_models.py DATA... [--seeds 0 1 2] [--out own_models.csv]

Each DATA is a benchmark directory; the first one is for the first seed, and so on. The arrays are made of it
as a user would: the means of two hours in the 12 channels that are numbers, [N, 24, 12], NaN where not
measured. A Conv1D of Keras fills and standardizes them itself and sees 24 x 25 numbers; gradient boosting of
scikit-learn reads rows [N, 288] with NaN; a GRU of PyTorch is left out where PyTorch is absent. 5% of the
training stays carry a temporal trigger of strength 2. The validation stays are the trusted ones.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import polars as pl
from keras import layers, ops
from rich.console import Console
from sklearn.ensemble import HistGradientBoostingClassifier

import mimic3tf
from mimic3tf.audit import AuditReport
from mimic3tf.defences.detectors import common_pattern
from mimic3tf.defences.detectors.registry import COMMON_PATTERN
from mimic3tf.defences.scoring import measure
from mimic3tf.poisoning.outcome import AttackResult

PROPORTION, STRENGTH = 0.05, 2.0
Predict = Callable[[np.ndarray], np.ndarray]
"""Array [N, T, C], NaN where not measured -> probability of label 1 [N]."""


def conv1d(x: np.ndarray, y: np.ndarray, *, epochs: int = 6, seed: int = 0) -> keras.Model:
    """Train a convolution over values, masks and the time; the model reads [N, T, C] with NaN."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(x.shape[1:])
    measured = ops.logical_not(ops.isnan(inputs))
    mean, spread = np.nanmean(x, axis=(0, 1)), np.nanstd(x, axis=(0, 1)) + 1e-6
    values = ops.where(measured, (inputs - mean) / spread, 0.0)
    masks = ops.cast(measured, "float32")
    time = 0 * masks[..., :1] + np.linspace(0, 1, x.shape[1], dtype=np.float32)[:, None]
    hidden = ops.concatenate([values, masks, time], axis=-1)
    for filters in (32, 32):
        hidden = layers.Conv1D(filters, 5, padding="same", activation="relu")(hidden)
    both = [layers.GlobalAveragePooling1D()(hidden), layers.GlobalMaxPooling1D()(hidden)]
    hidden = layers.Dropout(0.2)(ops.concatenate(both, axis=-1))
    model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(hidden))
    model.compile(keras.optimizers.Adam(2e-3), "binary_crossentropy")
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model


def boosting(x: np.ndarray, y: np.ndarray, *, seed: int = 0) -> Predict:
    """Fit gradient boosting to the rows [N, T * C]; returns its function of [N, T, C]."""
    rows = x.reshape(len(x), -1)
    used = ~np.isnan(rows).all(axis=0)  # scikit-learn fails on a column without any value
    model = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=250, max_leaf_nodes=8, l2_regularization=10.0, random_state=seed
    )
    model.fit(rows[:, used], y)
    return lambda x: model.predict_proba(x.reshape(len(x), -1)[:, used])[:, 1]


def gru(x: np.ndarray, y: np.ndarray, *, epochs: int = 10, seed: int = 0) -> Predict:
    """Train a GRU of PyTorch on standardized values and masks; returns its function of [N, T, C]."""
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(1)  # several threads of so small a model wait for each other in busy loops
    mean, spread = np.nanmean(x, axis=(0, 1)), np.nanstd(x, axis=(0, 1)) + 1e-6
    recurrent = torch.nn.GRU(2 * x.shape[2], 32, batch_first=True)
    head = torch.nn.Linear(32, 1)

    def logits(x: np.ndarray) -> Any:
        measured = ~np.isnan(x)
        values = np.where(measured, (x - mean) / spread, 0)
        inputs = np.concatenate([values, measured], axis=-1).astype(np.float32)
        return head(recurrent(torch.from_numpy(inputs))[0][:, -1])[:, 0]

    parameters = [*recurrent.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    loss_of, random = torch.nn.BCEWithLogitsLoss(), np.random.default_rng(seed)
    for _ in range(epochs):
        for batch in np.array_split(random.permutation(len(x)), max(1, len(x) // 64)):
            optimizer.zero_grad()
            labels = torch.from_numpy(y[batch].astype(np.float32))
            loss_of(logits(x[batch]), labels).backward()
            optimizer.step()

    def predict(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(torch.sigmoid(logits(x)).numpy())

    return predict


MODELS: dict[str, Callable[..., Any]] = {
    "Conv1D (Keras)": conv1d,
    "gradient boosting (scikit-learn)": boosting,
    "GRU (PyTorch)": gru,
}


def predict_with(model: keras.Model | Predict) -> Predict:
    """Return the function that predicts with a model of `MODELS`."""
    if isinstance(model, keras.Model):
        return lambda x: model.predict(x, verbose=0)[:, 0]
    return model


def audited(model: keras.Model | Predict, x: np.ndarray, y: np.ndarray, **options: Any) -> AuditReport:
    """Audit a model of `MODELS`, with all that its library lets an audit see."""
    if isinstance(model, keras.Model):
        return mimic3tf.audit.keras_model(model, x, y, **options)
    return mimic3tf.audit.model(model, x, y, **options)


@dataclass(frozen=True)
class Arrays:
    """Arrays x [N, 24, 12] and labels y [N] of each split, and the names of the channels."""

    x: dict[str, np.ndarray]
    y: dict[str, np.ndarray]
    channels: list[str]


def arrays_of(data: Path) -> Arrays:
    """Average two hours each of a benchmark directory, in the channels that are numbers."""
    x, y, channels = {}, {}, []
    for split in ("train", "val", "test"):
        cohort = mimic3tf.load_cohort(data, split)
        numbers = np.flatnonzero(~cohort.channels.categorical)
        channels = [cohort.channels[at].name for at in numbers.tolist()]
        measured = cohort.masks[..., numbers].reshape(len(cohort), -1, 2, len(numbers))
        values = cohort.grids[..., numbers].reshape(measured.shape)
        count = measured.sum(axis=2)
        sums = np.where(measured, values, 0).sum(axis=2)
        x[split] = np.where(count > 0, sums / np.maximum(count, 1), np.nan).astype(np.float32)
        y[split] = np.asarray(cohort.labels)
    return Arrays(x, y, channels)


def search_once() -> None:
    """Make each search for what stays share only once for the same stays.

    These searches read no model, so that those of one audit hold for all models of the same arrays. They
    take most of an audit's time.
    """

    def remembered(search: Callable[..., Any]) -> Callable[..., Any]:
        found: dict[str, Any] = {}

        def once(*arguments: Any) -> Any:
            digest = hashlib.sha256()
            for each in arguments:
                for part in vars(each).values() if hasattr(each, "__dict__") else [each]:
                    digest.update(np.ascontiguousarray(part).tobytes())
            key = digest.hexdigest()
            if key not in found:
                found[key] = search(*arguments)
            return found[key]

        return once

    for name in ("find_common_pattern", "find_moving_pattern", "find_common_gaps"):
        setattr(common_pattern, name, remembered(getattr(common_pattern, name)))


def row_of(
    place: dict[str, Any],
    attacked: AttackResult,
    clean_victim: AttackResult,
    report: AuditReport,
    poisoned: np.ndarray,
) -> dict[str, Any]:
    """Put what an attack and an audit found into one row."""
    found, verdict = report.result.found, report.verdict
    performance = measure(found.detections[COMMON_PATTERN].scores, poisoned[found.suspects])
    response = report.record["pattern_response"]
    success = attacked.success
    estimate, low, high = verdict.poisoned or (None, None, None)
    return {
        **place,
        "auroc": attacked.metrics["auroc"],
        **{"success": success.rate, "success_low": success.low, "success_high": success.high},
        "untriggered": attacked.baseline.rate,
        "clean_victim_triggered": clean_victim.success.rate,
        "verdict": verdict.level,
        "p_value": verdict.p_value,
        "rests_on": "; ".join(verdict.rests_on),
        **{"estimated": estimate, "estimated_low": low, "estimated_high": high},
        "stays_poisoned": int(poisoned.sum()),
        "recall_at_1": performance and performance.recall_at_1.value,
        "follows_pattern": response and response["with_pattern"],
        "follows_control": response and max(response["with_controls"]),
    }


def rows_of_seed(data: Path, seed: int, console: Console) -> Iterator[dict[str, Any]]:
    """Train, attack and audit every model, clean and poisoned."""
    arrays = arrays_of(data)
    x, y, test = arrays.x["train"], arrays.y["train"], (arrays.x["test"], arrays.y["test"])
    trigger = mimic3tf.generate_trigger(x, seed=seed)
    bad_x, bad_y, poisoned = mimic3tf.poison_arrays(x, y, trigger, proportion=PROPORTION, strength=STRENGTH)
    states = {"clean": (x, y, np.zeros(len(y), bool)), "poisoned": (bad_x, bad_y, poisoned)}
    options: dict[str, Any] = {"trusted": (arrays.x["val"], arrays.y["val"]), "channels": arrays.channels}
    for name, train in MODELS.items():
        if train is gru and find_spec("torch") is None:
            console.print(f"seed {seed}: {name} is left out, as PyTorch is not installed")
            continue
        models = {state: train(each_x, each_y, seed=seed) for state, (each_x, each_y, _) in states.items()}
        attacks = {
            state: mimic3tf.attack(predict_with(model), test, trigger, strength=STRENGTH)
            for state, model in models.items()
        }
        for state, (each_x, each_y, truth) in states.items():
            console.print(f"seed {seed}: {name}, {state}: success {attacks[state].success}")
            report = audited(models[state], each_x, each_y, seed=seed, **options)
            place = {"seed": seed, "model": name, "stays": state}
            yield row_of(place, attacks[state], attacks["clean"], report, truth)


def main() -> None:
    """Measure every seed; write the file after each row, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("own_models.csv"))
    given = parser.parse_args()
    if len(given.data) != len(given.seeds):
        parser.error(f"{len(given.data)} directories for {len(given.seeds)} seeds: give one for each seed")
    search_once()
    console = Console(stderr=True)
    rows: list[dict[str, Any]] = []
    for data, seed in zip(given.data, given.seeds, strict=True):
        for row in rows_of_seed(data, seed, console):
            rows.append(row)
            pl.DataFrame(rows, infer_schema_length=None).write_csv(given.out)
    with pl.Config(tbl_cols=-1, tbl_rows=-1, tbl_width_chars=250, float_precision=3):
        print(pl.DataFrame(rows, infer_schema_length=None))


if __name__ == "__main__":
    main()
