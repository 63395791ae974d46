"""The detectors of poisoned training stays: the registry that audits and tables share.

Each detector takes the evidence and a seed, and scores all stays. Only stays of the suspected label are
compared. The attack gives its stays that label, so among all stays a detector that only reads the labels
would look good (an AUROC of 0.94 with 5% poisoned and 14% deaths). "Death" means the suspected label here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mimic3tf.defences.detectors import (
    autoencoder,
    common_pattern,
    confusion_training,
    gram_matrices,
    outliers,
    representations,
    spectre,
    suspect_labels,
)
from mimic3tf.defences.detectors.views import Scores
from mimic3tf.defences.evidence import Evidence, Need


@dataclass(frozen=True)
class Detector:
    """One detector of poisoned stays.

    Attributes:
        score: function that scores all stays from the evidence and a seed.
        about: what makes a stay suspicious to the detector, in a few words.
        needs: what it needs beside labels and measurements.
        default: whether every audit uses it; the others were never the best one against any attack that was
            measured (docs/detection.md).
    """

    score: Callable[[Evidence, int], Scores]
    about: str
    needs: tuple[Need, ...] = ()
    default: bool = True


COMMON_PATTERN = "common pattern"
DETECTORS = {
    COMMON_PATTERN: Detector(
        common_pattern.shared_shift, "shifted by a pattern that many of these stays share"
    ),
    "moving pattern": Detector(
        common_pattern.moving_shift,
        "shifted by a pattern that many of these stays share at other hours",
        ("several bins",),
    ),
    "common gaps": Detector(common_pattern.shared_gaps, "lacks the cells that many of these stays lack"),
    "spectral signatures": Detector(
        representations.spectral_signatures,
        "far along the main direction of the model's activations",
        ("activations",),
        default=False,
    ),
    "activation clustering": Detector(
        representations.activation_clustering,
        "in the smaller of two clusters of the model's activations",
        ("activations",),
    ),
    "SPECTRE": Detector(
        spectre.spectre,
        "far along directions in which the model's activations vary too much",
        ("trusted activations",),
        default=False,
    ),
    "Beatrix": Detector(
        gram_matrices.beatrix,
        "pairs of the model's units active together as for no trusted stay",
        ("trusted activations",),
        default=False,
    ),
    "confusion training": Detector(
        confusion_training.confused,
        "a model that random labels of trusted stays confuse still predicts the suspected label",
        ("a network of mimic3tf for stays of one length",),
        default=False,
    ),
    "model disagreement": Detector(
        suspect_labels.model_disagreement,
        "a model of these stays predicts the suspected label, a model of trusted stays does not",
    ),
    "learned by the model": Detector(
        suspect_labels.learned_by_model,
        "the audited model predicts the suspected label, a model of trusted stays does not",
        ("predictions",),
        default=False,
    ),
    "easy to learn": Detector(
        suspect_labels.easy_to_learn,
        "a new model of the other training stays is sure of the suspected label",
        default=False,
    ),
    "unexpected death": Detector(
        suspect_labels.unexpected_death, "a model of trusted stays predicts the other label"
    ),
    "neighbours survived": Detector(
        suspect_labels.neighbours_survived, "the most similar stays have the other label", default=False
    ),
    "Mahalanobis": Detector(outliers.mahalanobis, "features far from those of trusted stays", default=False),
    "Mahalanobis by channel": Detector(
        outliers.channel_mahalanobis,
        "courses of channels far from those of trusted stays",
        ("several bins",),
        default=False,
    ),
    "isolation forest": Detector(
        outliers.isolation_forest, "features that few random splits isolate", default=False
    ),
    "local outlier factor": Detector(
        outliers.local_outlier_factor, "features with few others nearby", default=False
    ),
    "autoencoder": Detector(
        autoencoder.reconstruction,
        "grid badly rebuilt by an autoencoder of trusted grids",
        ("several bins",),
        default=False,
    ),
}
"""Detectors by name, in the order of the tables."""
