"""What the victim makes of stays before its last layer, for the PROJECTOR page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimic3tf.data.cohort import Cohort
from mimic3tf.poisoning.goal import Goal
from mimic3tf.storage.files import write_whole
from mimic3tf.tasks.metrics import predicted_1
from mimic3tf.training.validation import Risks

STAYS = 500
"""Of each kind at most: the page slows down with more."""
CONFIG, ACTIVATIONS, METADATA = "projector_config.pbtxt", "activations.tsv", "activations-metadata.tsv"


def write_embeddings(
    folder: Path,
    cohort: Cohort,
    activations: tuple[NDArray[np.floating], NDArray[np.floating]],
    risks: Risks,
    goal: Goal,
) -> None:
    """Write activations of clean attacked stays, of the same ones with the trigger, and of the others.

    Args:
        folder: directory of the run's events.
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
    vectors, rows = [], [f"kind\tplace in the split\tpredicted risk\t{words.predicted[1]}"]
    for kind, stays, vectors_of_kind, predicted in groups:
        for stay, vector, risk in zip(stays, vectors_of_kind, predicted, strict=True):
            vectors.append("\t".join(f"{value:.5g}" for value in vector))
            positive = "yes" if predicted_1(risk) else "no"
            # No name of a stay: these pages are shown around.
            rows.append(f"{kind}\t{stay + 1}\t{risk:.4f}\t{positive}")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / ACTIVATIONS, "\n".join(vectors) + "\n")
    write_whole(folder / METADATA, "\n".join(rows) + "\n")
    named = f'tensor_name: "penultimate layer"\n  tensor_path: "{ACTIVATIONS}"\n  metadata_path: "{METADATA}"'
    write_whole(folder / CONFIG, f"embeddings {{\n  {named}\n}}\n")


def _some(stays: NDArray[np.intp]) -> NDArray[np.intp]:
    """At most `STAYS` of them, evenly over all."""
    if len(stays) <= STAYS:
        return stays
    return stays[np.linspace(0, len(stays) - 1, STAYS).astype(int)]
