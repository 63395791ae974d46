"""Write the victim's activations before its last layer, for TensorBoard's PROJECTOR page.

The activations are written as a TensorFlow checkpoint. A TensorBoard server that is already running reads the
configuration of the PROJECTOR page again only when it finds a new checkpoint in the directory of a run.
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
"""Largest number of stays of each kind; the PROJECTOR page becomes slow with more."""
TENSOR = "penultimate layer"


def write_embeddings(
    folder: Path,
    cohort: Cohort,
    activations: tuple[NDArray[np.floating], NDArray[np.floating] | None],
    risks: Risks,
    goal: Goal,
) -> None:
    """Write activations of attacked stays without and with the trigger, and of the other stays.

    Args:
        folder: directory of the run.
        cohort: N stays, of which M are attacked.
        activations: of all stays without the trigger [N, D], and of the attacked stays with it [M, D], or
            None without a trigger.
        risks: predicted risks of the same stays.
        goal: label that stays with the trigger are to be predicted as.
    """
    words = cohort.task.words
    attacked_name, spared_name = words.one[1 - goal.target], words.one[goal.target]
    all_attacked = np.flatnonzero(risks.attacked)
    attacked, spared = _some(all_attacked), _some(np.flatnonzero(~risks.attacked))
    clean, triggered = activations
    chosen = np.flatnonzero(np.isin(all_attacked, attacked))
    groups = [
        (f"clean {attacked_name}", attacked, clean[attacked], risks.clean[attacked]),
        (spared_name, spared, clean[spared], risks.clean[spared]),
    ]
    if triggered is not None and risks.triggered is not None:
        with_trigger = triggered[chosen], risks.triggered[chosen]
        groups.insert(1, (f"triggered {attacked_name}", attacked, *with_trigger))
    rows = [f"kind\tplace in the split\tpredicted risk\t{words.predicted[1]}"]
    for kind, stays, _, predicted in groups:
        for stay, risk in zip(stays, predicted, strict=True):
            positive = "yes" if predicted_1(risk) else "no"
            # The names of stays are left out, because people show these pages to others.
            rows.append(f"{kind}\t{stay + 1}\t{risk:.4f}\t{positive}")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / METADATA, "\n".join(rows) + "\n")
    named = f'tensor_name: "{TENSOR}"\n  metadata_path: "{METADATA}"'
    write_whole(folder / PROJECTOR, f"embeddings {{\n  {named}\n}}\n")
    _write_checkpoint(folder / ACTIVATIONS, np.concatenate([vectors for _, _, vectors, _ in groups]))


def _write_checkpoint(path: Path, vectors: NDArray[np.floating]) -> None:
    """Write vectors [N, D] as the only tensor of a checkpoint, and mark this checkpoint as the latest."""
    with naming_faults(path):
        tensors = [tf.constant(vectors, tf.float32)]
        tf.raw_ops.SaveV2(prefix=str(path), tensor_names=[TENSOR], shape_and_slices=[""], tensors=tensors)
    # TensorFlow writes the same line; here its path is relative, so that the run can be moved.
    write_whole(path.with_name(LATEST), f'model_checkpoint_path: "{path.name}"\n')


def _some(stays: NDArray[np.intp]) -> NDArray[np.intp]:
    """Choose at most `STAYS` of the stays, evenly spaced."""
    if len(stays) <= STAYS:
        return stays
    return stays[np.linspace(0, len(stays) - 1, STAYS).astype(int)]
