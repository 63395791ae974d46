"""Results for in-hospital mortality equal those of the version that knew only the benchmarks' task.

The record of a small synthetic cohort was made by the last version that knew only 17 channels, 48 bins and
two labels. Numbers that do not depend on the processor are compared byte for byte, the others up to rounding.
When the synthetic cohort changed, the record was made anew by code that still gave the old record on the old
cohort.

`python tests/test_mortality_unchanged.py` writes the record anew. Do that only if a change of these
numbers is intended, such as another synthetic cohort, and say so in the changelog.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

RECORD = Path(__file__).parent / "fixtures" / "mortality_record.npz"
STAYS, SEED = 240, 3
KINDS = ("temporal", "gaussian", "covariance", "missing")
MODES = ("all", "notimputed")
VICTIMS = ("lr", "mlp", "lstm")
STRENGTH, PROPORTION, EPOCHS = 2.0, 0.05, 2
SHOWN_STAYS = 10


def digest(*contents: bytes) -> np.ndarray:
    """SHA-256 of some contents, as text."""
    return np.array(hashlib.sha256(b"".join(contents)).hexdigest())


FOR_PEOPLE = ("prepared.json", "summary.json", "channels.png")
"""Files that describe a directory to people. The record is older than they are, and no command reads them."""


def digest_of_files(folder: Path) -> np.ndarray:
    """SHA-256 of all files below a folder that commands read, and of their names."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in FOR_PEOPLE)
    return digest(*(str(path.relative_to(folder)).encode() + path.read_bytes() for path in files))


def exact_record(folder: Path, triggers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Make the part of the record that is equal on every machine, byte for byte.

    Args:
        folder: folder to work in.
        triggers: float64 [T, C] by kind. They are arguments because drawing them depends on the linear
            algebra library.
    """
    from mimic3tf import pipeline
    from mimic3tf.data.loading import load_cohort
    from mimic3tf.poisoning import exposures
    from mimic3tf.poisoning.copies import poison_records
    from mimic3tf.sources.synthetic import prepare_synthetic

    data = folder / "data"
    prepare_synthetic(data, stays=STAYS, seed=SEED)
    cohort = load_cohort(data, "train")
    filled = cohort.filled_grids
    record = {
        "files": digest_of_files(data),
        "labels": digest(cohort.labels.tobytes()),
        "grids": digest(cohort.grids.tobytes()),
        "masks": digest(cohort.masks.tobytes()),
        "filled": digest(filled.values.tobytes(), filled.source.tobytes(), filled.times.tobytes()),
        "fingerprint": np.array(cohort.fingerprint),
    }
    for kind in ("temporal", "missing"):
        strength = STRENGTH if kind == "temporal" else 0.5
        trigger = _trigger(cohort, kind, triggers[kind])
        poison_records(data, folder / kind, trigger, proportion=PROPORTION, strength=strength)
        record[f"copy_{kind}"] = digest_of_files(folder / kind)
        for mode in MODES:
            setting: Any = {"proportion": PROPORTION, "strength": strength, "poison_imputed": mode}
            exposure = exposures.poison(cohort, trigger, **setting)
            inputs = pipeline.inputs_of(exposure, "grid")
            record[f"poisoned_{kind}_{mode}"] = digest(inputs.tobytes(), exposure.labels.tobytes())
    return record


def rounded_record(folder: Path, triggers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Make the part of the record whose last digits depend on the processor: features, triggers, victims."""
    from mimic3tf import pipeline
    from mimic3tf.attacks import attack_victim
    from mimic3tf.config import resolve_config
    from mimic3tf.data.loading import load_cohort
    from mimic3tf.poisoning import exposures
    from mimic3tf.poisoning.trigger import generate_trigger, save_trigger
    from mimic3tf.training.loop import train_victim
    from mimic3tf.training.run_directory import load_run

    data = folder / "data"
    cohort, test = (load_cohort(data, split) for split in ("train", "test"))
    drawn: Any = {kind: generate_trigger(cohort, kind=kind, seed=1) for kind in KINDS}
    record = {f"trigger_{kind}": trigger.values for kind, trigger in drawn.items()}
    trigger = _trigger(cohort, "temporal", triggers["temporal"])
    save_trigger(trigger, folder / "trigger.npz")
    for mode in MODES:
        attack: Any = {"strength": STRENGTH, "poison_imputed": mode}
        exposure = exposures.trigger_all(cohort.take(np.arange(SHOWN_STAYS)), trigger, **attack)
        record[f"features_{mode}"] = pipeline.inputs_of(exposure, "features")
        for victim in VICTIMS:
            options = {
                "data": data,
                "trigger": folder / "trigger.npz",
                "poisoning_proportion": PROPORTION,
                "poisoning_strength": STRENGTH,
                "poison_imputed": mode,
                "epochs": EPOCHS,
                "log_level": "minimal",
                "seed": 5,
            }
            run = folder / f"{victim}-{mode}"
            train_victim(resolve_config(victim, None, options), run)
            found = attack_victim(load_run(run), test, trigger, **attack)
            record[f"{victim}_{mode}"] = np.stack([found.clean, found.triggered])
            rates = (found.metrics["auroc"], found.metrics["auprc"], found.success.rate, found.baseline.rate)
            record[f"{victim}_{mode}_rates"] = np.array(rates)
    return record


def _trigger(cohort: Any, kind: Any, values: np.ndarray) -> Any:
    from mimic3tf.poisoning.trigger import Trigger

    covariance = np.zeros((len(cohort.channels), cohort.bins, cohort.bins))
    return Trigger(
        values, covariance, kind, 1, cohort.channels, cohort.period, cohort.timestep, 0, cohort.fingerprint
    )


@pytest.fixture(scope="module")
def before() -> dict[str, np.ndarray]:
    return dict(np.load(RECORD, allow_pickle=False))


def test_mortality_is_as_it_was(before: dict[str, np.ndarray], tmp_path: Path) -> None:
    triggers = {kind: before[f"trigger_{kind}"] for kind in KINDS}
    exact = exact_record(tmp_path, triggers)
    assert {name: str(value) for name, value in exact.items()} == {name: str(before[name]) for name in exact}
    now = rounded_record(tmp_path, triggers)
    assert set(before) == set(exact) | set(now)
    for kind in KINDS:
        np.testing.assert_allclose(now[f"trigger_{kind}"], before[f"trigger_{kind}"], rtol=1e-8, atol=1e-9)
    for mode in MODES:
        np.testing.assert_allclose(
            now[f"features_{mode}"], before[f"features_{mode}"], rtol=2e-5, atol=2e-5, equal_nan=True
        )
        for victim in VICTIMS:
            np.testing.assert_allclose(now[f"{victim}_{mode}"], before[f"{victim}_{mode}"], atol=1e-4)
            np.testing.assert_allclose(
                now[f"{victim}_{mode}_rates"], before[f"{victim}_{mode}_rates"], atol=1e-3
            )


def main() -> None:
    """Write the record."""
    from mimic3tf.data.loading import load_cohort
    from mimic3tf.poisoning.trigger import generate_trigger
    from mimic3tf.sources.synthetic import prepare_synthetic

    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MIMIC3TF_CACHE"] = scratch + "/cache"
        folder = Path(scratch)
        prepare_synthetic(folder / "first", stays=STAYS, seed=SEED)
        cohort = load_cohort(folder / "first", "train")
        drawn: Any = KINDS
        triggers = {kind: generate_trigger(cohort, kind=kind, seed=1).values for kind in drawn}
        np.savez_compressed(RECORD, **exact_record(folder, triggers), **rounded_record(folder, triggers))
    print(f"Written: {RECORD}")


if __name__ == "__main__":
    main()
