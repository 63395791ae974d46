"""What the victim makes of stays before its last layer, for the PROJECTOR page.

The activations are a checkpoint of TensorFlow's. A server that runs already reads the page's configuration
again when it finds a new checkpoint beside a run, not when it finds another file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf.dashboards.event_file import naming_faults
from mimic3tf.data.cohort import Cohort
from mimic3tf.poisoning.goal import Goal
from mimic3tf.storage.files import write_whole
from mimic3tf.tasks.metrics import predicted_1
from mimic3tf.training.run_files import ACTIVATIONS, LATEST, METADATA, PROJECTOR
from mimic3tf.training.validation import Risks

STAYS = 500
"""Of each kind at most: the page slows down with more."""
TENSOR = "penultimate layer"


def write_embeddings(
    folder: Path,
    cohort: Cohort,
    activations: tuple[NDArray[np.floating], NDArray[np.floating]],
    risks: Risks,
    goal: Goal,
) -> None:
    """Write activations of clean attacked stays, of the same ones with the trigger, and of the others.

    Args:
        folder: directory of the run.
        cohort: the N stays; M of them are attacked.
        activations: of the clean stays [N, D], and of the attacked ones with the trigger [M, D].
        risks: predictions of the same.
        goal: what the attacker wants to be predicted.
    """
    words = cohort.task.words
    attacked_name, spared_name = words.one[1 - goal.target], words.one[goal.target]
    all_attacked = np.flatnonzero(risks.attacked)
    attacked, spared = _some(all_attacked), _some(np.flatnonzero(~risks.attacked))
    clean, triggered = activations
    chosen = np.flatnonzero(np.isin(all_attacked, attacked))
    groups = (
        (f"clean {attacked_name}", attacked, clean[attacked], risks.clean[attacked]),
        (f"triggered {attacked_name}", attacked, triggered[chosen], risks.triggered[chosen]),
        (spared_name, spared, clean[spared], risks.clean[spared]),
    )
    rows = [f"kind\tplace in the split\tpredicted risk\t{words.predicted[1]}"]
    for kind, stays, _, predicted in groups:
        for stay, risk in zip(stays, predicted, strict=True):
            positive = "yes" if predicted_1(risk) else "no"
            # No name of a stay: these pages are shown around.
            rows.append(f"{kind}\t{stay + 1}\t{risk:.4f}\t{positive}")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / METADATA, "\n".join(rows) + "\n")
    named = f'tensor_name: "{TENSOR}"\n  metadata_path: "{METADATA}"'
    write_whole(folder / PROJECTOR, f"embeddings {{\n  {named}\n}}\n")
    _write_checkpoint(folder / ACTIVATIONS, np.concatenate([vectors for _, _, vectors, _ in groups]))


def _write_checkpoint(path: Path, vectors: NDArray[np.floating]) -> None:
    """Write vectors [N, D] as the only tensor of a checkpoint, and say that it is the latest."""
    with naming_faults(path):
        tensors = [tf.constant(vectors, tf.float32)]
        tf.raw_ops.SaveV2(prefix=str(path), tensor_names=[TENSOR], shape_and_slices=[""], tensors=tensors)
    # As TensorFlow writes it, but with a path that holds where the run is moved to.
    write_whole(path.with_name(LATEST), f'model_checkpoint_path: "{path.name}"\n')


def _some(stays: NDArray[np.intp]) -> NDArray[np.intp]:
    """At most `STAYS` of them, evenly over all."""
    if len(stays) <= STAYS:
        return stays
    return stays[np.linspace(0, len(stays) - 1, STAYS).astype(int)]
