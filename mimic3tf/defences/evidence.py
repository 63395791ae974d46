"""What a defender has: training stays, trusted stays, and a model as far as it can be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mimic3tf import pipeline
from mimic3tf.config import TrainingConfig
from mimic3tf.data.cohort import Cohort
from mimic3tf.defences.inspection.shifted_inputs import shifted_inputs
from mimic3tf.defences.retraining import Examples, examples_of, predict, retrain
from mimic3tf.defences.whole_stays import HOURS, held, stay_risks, whole_stays
from mimic3tf.described import Described
from mimic3tf.errors import UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.exposures import Exposure
from mimic3tf.poisoning.manifest import Manifest
from mimic3tf.poisoning.trigger import Trigger
from mimic3tf.standardization import Standardization, standardized
from mimic3tf.storage.files import PathText
from mimic3tf.tasks.registry import task_of
from mimic3tf.training.estimators import FittedEstimator
from mimic3tf.training.loop import fit_victim
from mimic3tf.training.prediction import outputs_of
from mimic3tf.training.run_directory import Run
from mimic3tf.training.stays import load_split, poison_as_set, training_cohort
from mimic3tf.victims import Reads
from mimic3tf.victims.penultimate import penultimate

Floats = NDArray[np.float64]
Risk = Callable[[Exposure], Floats]
"""Stays with or without a shift -> probability of label 1 [N]."""
Part = Literal["training", "trusted"]
Need = Literal[
    "several bins",
    "activations",
    "trusted activations",
    "predictions",
    "a network of mimic3tf for stays of one length",
]
"""What a detector may need beside labels and measurements."""


@dataclass(frozen=True)
class Gradients:
    """A model that can be differentiated by a pattern.

    Attributes:
        margins: function of indices int64 [B] of trusted stays and patterns float64 [K, T, C], in channel
            units and added to every measured or imputed cell, to the log odds of label 1: float64 [K, B].
        risk: the model's predictions for stays.
    """

    margins: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    risk: Risk


class AuditedModel(Described):
    """A model under audit. A method returns None if the model, or what is known of it, cannot answer.

    Attributes:
        needed: what the checks need that the model cannot answer; None if they need another model.
    """

    needed: ClassVar[str | None] = None

    def risk(self) -> Risk | None:
        """Return the function that predicts stays."""
        return None

    def predictions(self) -> Floats | None:
        """Return the probability of label 1 of the training stays [N]."""
        return None

    def activations(self, part: Part, stays: NDArray[np.integer]) -> Floats | None:
        """Return the inputs of the last layer for training or trusted stays of indices [K]: [K, H]."""
        return None

    def gradients(self) -> Gradients | None:
        """Return the model as a function that can be differentiated."""
        return None

    def reference(
        self, train: NDArray[np.integer], judge: NDArray[np.integer], seed: int
    ) -> Gradients | None:
        """Train a model of the same kind on some trusted stays, while others choose its epoch."""
        return None


@dataclass(frozen=True, eq=False, repr=False)
class AuditedVictim(AuditedModel):
    """A victim of mimic3tf.

    Attributes:
        config: settings of the victim's training, with the goal of the manifest if there is one. Defences
            read only the settings of the training, not those of the poisoning.
        reads: whether the victim reads grids or features.
        model: the trained victim: standardized inputs -> logits [N, 2]. An estimator of scikit-learn has no
            activations and no gradients.
        standardization: standardization of the victim's inputs.
        inputs: float32 [N, ...], standardized inputs of the training stays.
        trusted: the trusted stays.
    """

    config: TrainingConfig
    reads: Reads
    model: keras.Model | FittedEstimator
    standardization: Standardization
    inputs: NDArray[np.float32]
    trusted: Cohort

    @property
    def network(self) -> keras.Model:
        """The victim, which must be a Keras model."""
        assert not isinstance(self.model, FittedEstimator)
        return self.model

    @cached_property
    def examples(self) -> Examples:
        """The trusted stays as the victim reads them."""
        return examples_of(self.trusted, self.reads, self.standardization)

    def risk(self) -> Risk:
        """Predict stays with the victim; see `AuditedModel`."""
        return self._risk(self.model)

    def risks_of_inputs(self, inputs: pipeline.Inputs) -> Floats:
        """Predict stays by their standardized inputs."""
        return predict(self.model, self.config, inputs)

    def inputs_of(self, exposure: Exposure) -> NDArray[np.float32]:
        """Compute the standardized inputs of stays."""
        return np.asarray(pipeline.inputs_of(exposure, self.reads, self.standardization))

    def predictions(self) -> Floats:
        """Predict the training stays with the victim; see `AuditedModel`."""
        return self.risks_of_inputs(self.inputs)

    def activations(self, part: Part, stays: NDArray[np.integer]) -> Floats | None:
        """Compute the inputs of the victim's last layer; see `AuditedModel`."""
        if isinstance(self.model, FittedEstimator):
            return None
        inputs = self.inputs if part == "training" else self.examples.inputs
        return np.asarray(outputs_of(penultimate(self.model), inputs[stays]), np.float64)

    def gradients(self) -> Gradients | None:
        """Differentiate the victim; see `AuditedModel`."""
        return None if isinstance(self.model, FittedEstimator) else self.gradients_of(self.model)

    def gradients_of(self, model: keras.Model) -> Gradients:
        """Differentiate a model that reads the inputs of the victim."""
        inputs = shifted_inputs(self.trusted, self.reads, self.standardization)

        def margins(stays: tf.Tensor, patterns: tf.Tensor) -> tf.Tensor:
            logits = tf.cast(model(inputs(stays, patterns), training=False), tf.float64)
            return tf.reshape(logits[:, 1] - logits[:, 0], [tf.shape(patterns)[0], -1])

        return Gradients(margins, self._risk(model))

    def reference(self, train: NDArray[np.integer], judge: NDArray[np.integer], seed: int) -> Gradients:
        """Train a victim of the same kind; see `AuditedModel`."""
        examples = self.examples
        settings = self.config.model_copy(update={"seed": seed})
        return self.gradients_of(retrain(settings, examples.take(train), examples.take(judge)))

    def _risk(self, model: keras.Model | FittedEstimator) -> Risk:
        return lambda stays: predict(model, self.config, self.inputs_of(stays))


@dataclass(frozen=True, eq=False, repr=False)
class AuditedAnyLength(AuditedModel):
    """A victim of stays with lengths of their own.

    Attributes:
        config: settings of the victim's training, with the goal of the manifest if there is one.
        exposure: all training stays, as the victim saw them.
        trusted: the trusted stays, with all their hours.
        model: the trained victim: standardized inputs -> logits.
        standardization: standardization of the victim's inputs.
    """

    config: TrainingConfig
    exposure: Exposure
    trusted: Cohort
    model: keras.Model | FittedEstimator
    standardization: Standardization

    def risk(self) -> Risk:
        """Predict trusted stays with shifts of their first hours; see `AuditedModel`."""

        places = {str(stay): place for place, stay in enumerate(self.trusted.stays)}

        def of_stays(shown: Exposure) -> Floats:
            cohort = self.trusted.take(np.array([places[str(stay)] for stay in shown.cohort.stays]))
            exposure = replace(shown, cohort=cohort, labels=cohort.labels)
            return stay_risks(cohort, self.config.attack_goal, self.risks_of_stays(exposure))

        return of_stays

    def risks_of_stays(self, exposure: Exposure) -> Floats:
        """Predict the attacked label of all examples."""
        return self.risks_of_inputs(self.inputs_of(exposure))

    def risks_of_inputs(self, inputs: pipeline.Inputs) -> Floats:
        """Predict the attacked label by standardized inputs."""
        return self.risks_of_outputs(outputs_of(self.model, inputs))

    def risks_of_outputs(self, outputs: NDArray[np.floating]) -> Floats:
        """Return the probabilities of the attacked label [E] that outputs [E, ...] stand for."""
        found = task_of(self.config.task).targets.probabilities(outputs)
        return np.asarray(self.config.attack_goal.of(found), np.float64)

    def inputs_of(self, exposure: Exposure) -> pipeline.Inputs:
        """Compute the standardized inputs of stays."""
        inputs: pipeline.Inputs = pipeline.inputs_of(exposure, self.config.reads, self.standardization)
        return inputs


@dataclass(frozen=True, eq=False, repr=False)
class AuditedStays(AuditedAnyLength):
    """A victim of stays with lengths of their own, which predicts each stay as a whole."""

    @cached_property
    def hidden(self) -> tuple[Floats, Floats] | None:
        """Inputs of the last layer for the training and the trusted stays, [N, H] and [M, H]."""
        if isinstance(self.model, FittedEstimator):
            return None
        model = penultimate(self.model)
        parts = self.exposure, exposures.clean(self.trusted)
        training, trusted = (
            np.asarray(outputs_of(model, self.inputs_of(part)), np.float64) for part in parts
        )
        return training, trusted

    @cached_property
    def risks(self) -> Floats:
        """Probability of the attacked label of the training stays [N]."""
        return self.risks_of_stays(self.exposure)

    def predictions(self) -> Floats:
        """Return the victim's predictions for the training stays; see `AuditedModel`."""
        return self.risks

    def activations(self, part: Part, stays: NDArray[np.integer]) -> Floats | None:
        """Return the inputs of the victim's last layer; see `AuditedModel`."""
        return None if self.hidden is None else self.hidden[0 if part == "training" else 1][stays]

    def gradients(self) -> Gradients | None:
        """Differentiate the victim by patterns in the first hours of stays; see `AuditedModel`."""
        model, column = self.model, self.config.attack_goal.column
        if isinstance(model, FittedEstimator):
            return None
        inputs = shifted_inputs(self.trusted, self.config.reads, self.standardization)
        last_bin = tf.constant(self.trusted.lengths - 1)

        def margins(stays: tf.Tensor, patterns: tf.Tensor) -> tf.Tensor:
            logits = tf.cast(model(inputs(stays, patterns), training=False), tf.float64)
            if len(logits.shape) == 3:  # Under target replication, every bin has logits.
                ends = tf.tile(tf.gather(last_bin, stays), [tf.shape(patterns)[0]])
                logits = tf.gather(logits, ends, batch_dims=1)
            return tf.reshape(logits[:, column], [tf.shape(patterns)[0], -1])

        return Gradients(margins, self.risk())

    def reference(
        self, train: NDArray[np.integer], judge: NDArray[np.integer], seed: int
    ) -> Gradients | None:
        """Train a victim of the same kind, with all labels; see `AuditedModel`."""
        # Without a trigger, nothing but the AUROC can choose the epoch.
        config = self.config.model_copy(update={"seed": seed, "selection": "auroc"})
        model, standardization = fit_victim(
            config, exposures.clean(self.trusted.take(train)), self.trusted.take(judge)
        )
        return replace(self, model=model, standardization=standardization).gradients()


class AuditedHours(AuditedAnyLength):
    """A victim that predicts at many hours of a stay: detectors cannot ask for one prediction of it."""

    needed = "one prediction a stay"


@dataclass(frozen=True, eq=False, repr=False)
class Evidence(Described):
    """Everything that defences may read. It does not say which stays are poisoned.

    A table is a cohort of one bin, whose channels are its columns.

    Objects are compared by identity, so that arrays derived from one of them can be cached.

    Attributes:
        stays: names [N] of the training stays.
        grids: float32 [N, T, C], training stays in channel units, categories as indices.
        masks: bool [N, T, C], which cells of the training stays were measured.
        labels: int64 [N], the labels that the model was trained with.
        suspected: the label that an attacker may have given to poisoned stays. An audit takes the goal of
            the run or of the manifest; a defender who does not know the goal audits each label.
        trusted: the trusted stays; for a run, those of the validation split.
        fingerprint: SHA-256 (hex) of the data of the training stays, without what a run poisoned itself.
        model: the model under audit; None if only the training stays are audited.
        source: what the user named, for messages: "--data data/synthetic", or "x".
    """

    stays: NDArray[np.str_]
    grids: NDArray[np.float32]
    masks: NDArray[np.bool_]
    labels: NDArray[np.int64]
    suspected: int
    trusted: Cohort
    fingerprint: str
    model: AuditedModel | None
    source: str

    @property
    def victim(self) -> AuditedVictim:
        """The model under audit, which must be a victim of mimic3tf."""
        assert isinstance(self.model, AuditedVictim)
        return self.model

    def lacks(self, need: Need) -> bool:
        """Tell whether something that a detector needs is missing."""
        if need == "several bins":
            return self.trusted.bins == 1
        if need == "a network of mimic3tf for stays of one length":
            model = self.model
            return not (isinstance(model, AuditedVictim) and isinstance(model.model, keras.Model))
        if self.model is None:
            return True
        if need == "predictions":
            return self.model.predictions() is None
        part: Part = "training" if need == "activations" else "trusted"
        return self.model.activations(part, np.arange(1)) is None


@dataclass(frozen=True, repr=False)
class Truth(Described):
    """The truth about an attack, which an audit is scored against.

    Attributes:
        poisoned: bool [N], which training stays carry the trigger.
        trigger: the trigger of the attack; None if the run has none, and none was given.
    """

    poisoned: NDArray[np.bool_]
    trigger: Trigger | None


def gather_evidence(
    run: Run,
    data: PathText,
    *,
    manifest: Manifest | None = None,
    trigger: Trigger | None = None,
    follow_links: bool = False,
) -> tuple[Evidence, Truth]:
    """Rebuild the training stays of a run, and keep the attacker's knowledge apart.

    Args:
        run: the victim.
        data: the benchmark directory that the victim was trained on.
        manifest: the manifest of a directory that `mimic3tf poison` made, if the run itself poisoned nothing.
        trigger: the true trigger, if it is not the trigger of the run.
        follow_links: whether to read links that lead out of the directory.

    Returns:
        The evidence, and the truth that scores what defences find in it.

    Raises:
        UsageError: the run was trained on other stays, the manifest is of another directory, or a manifest
            is given for a run that poisoned its own stays.
        DataError: the data is malformed.
    """
    update: dict[str, Any] = {"data": Path(data)}
    if manifest is not None:
        update |= {"goal": manifest.goal.target, "goal_label": manifest.goal_label}
    config = run.config.model_copy(update=update).following(follow_links)
    cohort = training_cohort(config)
    if cohort.fingerprint != run.summary["data_fingerprint"]["train"]:
        raise UsageError(
            f"--data {data}: the run in {run.path} was trained on other stays; name its own data"
        )
    exposure = poison_as_set(config, cohort, run.trigger)
    poisoned = exposure.triggered if manifest is None else _of_manifest(manifest, run, exposure, data)
    truth = Truth(poisoned, trigger or run.trigger)
    if cohort.period is None:
        return _of_any_length(run, config, exposure, truth)
    reads = config.reads
    raw = pipeline.inputs_of(exposure, reads)
    inputs, trusted = standardized(raw, run.standardization), load_split(config, "val")
    evidence = Evidence(
        stays=cohort.stays,
        grids=pipeline.grids_of(exposure, np.arange(len(exposure))),
        masks=exposure.cohort.masks,
        labels=exposure.labels,
        suspected=config.goal,
        trusted=trusted,
        fingerprint=cohort.fingerprint,
        model=AuditedVictim(config, reads, run.model, run.standardization, inputs, trusted),
        source=f"--data {data}",
    )
    return evidence, truth


def _of_manifest(manifest: Manifest, run: Run, exposure: Exposure, data: PathText) -> NDArray[np.bool_]:
    """Mark the training stays that a manifest names: bool [N]."""
    if exposure.triggered.any():
        raise UsageError(
            f"--manifest: the run in {run.path} poisoned its stays itself; give a manifest only with a "
            "run of --poisoning_proportion 0 on a copy that 'mimic3tf poison' made"
        )
    if manifest.copy_fingerprint != exposure.cohort.fingerprint:
        raise UsageError(f"--manifest: is not of the stays in {data}; name the copy's own manifest")
    return np.isin(exposure.cohort.stays, manifest.stays)


def _of_any_length(
    run: Run, config: TrainingConfig, exposure: Exposure, truth: Truth
) -> tuple[Evidence, Truth]:
    """Gather evidence of stays with lengths of their own: `whole_stays`, and what their victim answers."""
    goal, label, cohort = config.attack_goal, config.goal_label, exposure.cohort
    seen = replace(cohort, examples=replace(cohort.examples, y=exposure.labels))
    trusted = load_split(config, "val")
    (stays, kept), (known, known_kept) = (whole_stays(part, goal, label) for part in (seen, trusted))
    shown, poisoned = exposures.clean(stays), exposure.triggered[kept]
    if run.trigger is not None and poisoned.any() and config.at < HOURS:
        how: Any = {"strength": config.poisoning_strength, "poison_imputed": config.poison_imputed}
        everywhere = exposures.trigger_all(stays, run.trigger, at=config.at, **how)
        shown = replace(everywhere, triggered=poisoned)
    grids = pipeline.grids_of(shown, np.arange(len(stays)))
    evidence = Evidence(
        stays=stays.stays,
        grids=held(grids, cohort.lengths[kept]),
        masks=stays.masks,
        labels=stays.labels,
        suspected=config.goal,
        trusted=known,
        fingerprint=cohort.fingerprint,
        model=(AuditedHours if cohort.task.hourly else AuditedStays)(
            config, exposure, trusted.take(known_kept), run.model, run.standardization
        ),
        source=f"--data {config.data}",
    )
    return evidence, Truth(truth.poisoned[kept], truth.trigger)
