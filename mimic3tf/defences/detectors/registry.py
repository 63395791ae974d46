"""The detectors of poisoned training stays: the registry that audits and tables share.

Each takes the evidence and a seed and scores all stays. Only stays of the suspected label are ever compared:
the attack gives its stays that label, and a detector that merely read the labels would look good among all
stays (an AUROC of 0.94 with 5% poisoned and 14% deaths). "Death" in what follows is the suspected label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mimic3tf.defences.detectors import autoencoder, outliers, representations, suspect_labels
from mimic3tf.defences.detectors.views import Scores
from mimic3tf.defences.evidence import Evidence


@dataclass(frozen=True)
class Detector:
    """A way to look for poisoned stays.

    Attributes:
        score: function of the evidence and a seed.
        about: what makes a stay suspicious, in a few words.
    """

    score: Callable[[Evidence, int], Scores]
    about: str


DETECTORS = {
    "spectral signatures": Detector(
        representations.spectral_signatures, "far along the main direction of the victim's activations"
    ),
    "activation clustering": Detector(
        representations.activation_clustering, "in the smaller of two clusters of the victim's activations"
    ),
    "model disagreement": Detector(
        suspect_labels.model_disagreement, "death to a model of these stays, not to one of trusted stays"
    ),
    "easy to learn": Detector(
        suspect_labels.easy_to_learn, "death beyond doubt to a fresh model of the other stays"
    ),
    "unexpected death": Detector(suspect_labels.unexpected_death, "survival to a model of trusted stays"),
    "neighbours survived": Detector(
        suspect_labels.neighbours_survived, "the most similar stays are labelled 0"
    ),
    "Mahalanobis": Detector(outliers.mahalanobis, "features far from those of trusted stays"),
    "Mahalanobis by channel": Detector(
        outliers.channel_mahalanobis, "courses of channels far from those of trusted stays"
    ),
    "isolation forest": Detector(outliers.isolation_forest, "features that are soon set apart"),
    "local outlier factor": Detector(outliers.local_outlier_factor, "features in a sparse place"),
    "autoencoder": Detector(
        autoencoder.reconstruction, "grid badly rebuilt by an autoencoder of trusted grids"
    ),
}
"""By name, as tables show it."""
