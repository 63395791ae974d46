"""Models that a user brings to an audit: any function that predicts, or a Keras model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from mimic3tf.defences.evidence import AuditedModel, Floats, Gradients, Part, Risk
from mimic3tf.described import Described
from mimic3tf.errors import UsageError
from mimic3tf.poisoning.any_model import Predict, probabilities_of
from mimic3tf.poisoning.arrays import exposed_cells
from mimic3tf.poisoning.exposures import Exposure
from mimic3tf.training.prediction import outputs_of

STAYS_A_CALL = 1024
"""Most stays that a user's function predicts at once."""
LEAST_PROBABILITY = 1e-7
GIVE_PROBABILITIES = {"sigmoid", "hardsigmoid", "softmax"}
"""Activations, or operations, whose output is probabilities."""
PASS_ON = (
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.InputLayer,
    keras.layers.Reshape,
)
"""Layers that change no number of a prediction."""
SUM_ERROR = 0.01
"""Largest error of the sum of probabilities, which half precision rounds."""


@dataclass(frozen=True)
class Target:
    """The part of a model's output that is the probability of label 1.

    Attributes:
        column: its column, if the output has several.
        classes: number of classes or labels K.
        exclusive: whether a stay has exactly one of the classes.
    """

    column: int
    classes: int
    exclusive: bool

    @property
    def in_words(self) -> str | None:
        """Name of the suspected label as the user counts it; None if labels 0 and 1 are the user's own."""
        if self.exclusive:
            return f"class {self.column}" if self.classes > 2 else None
        return f"1 in column {self.column}"

    def probability(self, outputs: ArrayLike, stays: int) -> Floats:
        """Return the probability of label 1 [N] from what a model predicted for N stays.

        Raises:
            DataError: the output has another shape, is not finite, or is no probability.
        """
        # Of two labels that a stay may both have, each needs its column.
        single = self.classes == 1 or (self.exclusive and self.classes == 2)
        return probabilities_of(outputs, stays, column=self.column, columns=self.classes, single=single)

    def log_odds(self, outputs: tf.Tensor, *, logits: bool) -> tf.Tensor:
        """Return the log odds of label 1, float64 [N], from the output [N, ...] of a Keras model."""
        outputs = tf.cast(outputs, tf.float64)
        outputs = tf.reshape(outputs, [tf.shape(outputs)[0], -1])
        single = outputs.shape[1] == 1
        own = outputs[:, 0 if single else self.column]
        if not logits:
            own = tf.clip_by_value(own, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
            return tf.math.log(own) - tf.math.log1p(-own)
        if single or not self.exclusive:
            return own
        others = [outputs[:, column] for column in range(outputs.shape[1]) if column != self.column]
        return own - tf.reduce_logsumexp(tf.stack(others, axis=1), axis=1)


@dataclass(frozen=True, eq=False, repr=False)
class Arrays(Described):
    """The arrays of an audit, as the user's model reads them.

    Attributes:
        x: float32 [N, T, C] or [N, D], training stays; NaN where not measured.
        trusted: the same for the M trusted stays.
        target: which part of the model's output counts.
    """

    x: NDArray[np.float32]
    trusted: NDArray[np.float32]
    target: Target

    def of(self, exposure: Exposure) -> NDArray[np.floating]:
        """Return stays with their shifts in the form of `x`."""
        cells = exposed_cells(exposure, exposure.cohort.grids)
        return cells if self.x.ndim == 3 else cells[:, 0]


@dataclass(frozen=True, eq=False, repr=False)
class OwnModel(AuditedModel):
    """A model that answers by a function, or of which only answers are known.

    Attributes:
        arrays: the arrays of the audit.
        predict: the function; None if only answers are known.
        known: predictions [N] of the training stays, if the function is not known.
        seen: activations [N, H] of the training stays and [M, H] of the trusted ones; None if not known.
    """

    arrays: Arrays
    predict: Predict | None = None
    known: Floats | None = None
    seen: tuple[Floats | None, Floats | None] = (None, None)

    def risk(self) -> Risk | None:
        """Predict stays with the user's function; see `AuditedModel`."""
        return None if self.predict is None else lambda exposure: self.risk_of(self.arrays.of(exposure))

    def predictions(self) -> Floats | None:
        """Predict the training stays; see `AuditedModel`."""
        return self._predictions

    @cached_property
    def _predictions(self) -> Floats | None:
        return self.known if self.predict is None else self.risk_of(self.arrays.x)

    def activations(self, part: Part, stays: NDArray[np.integer]) -> Floats | None:
        """Return the activations that the user gave; see `AuditedModel`."""
        seen = self.seen[0 if part == "training" else 1]
        return None if seen is None else seen[stays]

    def risk_of(self, x: NDArray[np.floating]) -> Floats:
        """Predict arrays with the user's function: the probability of label 1 [N]."""
        assert self.predict is not None
        parts = [x[start : start + STAYS_A_CALL] for start in range(0, len(x), STAYS_A_CALL)]
        return np.concatenate(
            [self.arrays.target.probability(self.predict(part), len(part)) for part in parts]
        )


@dataclass(frozen=True, eq=False, repr=False)
class OwnKerasModel(AuditedModel):
    """A Keras model of the user's.

    Attributes:
        arrays: the arrays of the audit, which the model reads as they are.
        model: the model.
        layer: name of the layer whose output counts as activations; what the last layer with weights reads
            if not given.
        masks: bool [M, T, C], which cells of the trusted stays were measured.
        fit: trains a model of the same kind on some rows (indices) of the trusted stays; None if not known.
    """

    arrays: Arrays
    model: keras.Model
    layer: str | None
    masks: NDArray[np.bool_]
    fit: Callable[[NDArray[np.integer]], keras.Model] | None

    def risk(self) -> Risk:
        """Predict stays with the Keras model; see `AuditedModel`."""
        return self._risk(self.model)

    def predictions(self) -> Floats:
        """Predict the training stays; see `AuditedModel`."""
        return self._predictions

    @cached_property
    def _predictions(self) -> Floats:
        return self.probabilities(self.model, self.arrays.x)

    def probabilities(self, model: keras.Model, x: NDArray[np.floating]) -> Floats:
        """Predict arrays with a model of the same kind: the probability of label 1 [N].

        Raises:
            UsageError: the model has another output than the labels need, or predicts NaN.
        """
        outputs = outputs_of(model, x)
        target = self.arrays.target
        width = int(np.prod(outputs.shape[1:]))
        if width != target.classes and not (width == 1 and target.exclusive and target.classes == 2):
            raise UsageError(
                f"model: its output has shape {outputs.shape}, but the labels need {target.classes} columns"
            )
        if not np.isfinite(outputs).all():
            raise UsageError(
                "model: predicts a number that is not finite; if the model cannot read NaN, fill the cells "
                "that were not measured in x, or audit a function with mimic3tf.audit.model"
            )
        odds = target.log_odds(tf.constant(outputs), logits=self._gives_logits(model))
        return np.asarray(tf.math.sigmoid(odds).numpy(), np.float64)

    def activations(self, part: Part, stays: NDArray[np.integer]) -> Floats | None:
        """Compute what the layer puts out; see `AuditedModel`."""
        if self._hidden is None:
            return None
        x = self.arrays.x if part == "training" else self.arrays.trusted
        return np.asarray(outputs_of(self._hidden, x[stays]), np.float64).reshape(len(stays), -1)

    @cached_property
    def _hidden(self) -> keras.Model | None:
        """A model from the inputs to the activations; None if the model has no graph of layers."""
        try:
            if self.layer is not None:
                return keras.Model(self.model.inputs, self.model.get_layer(self.layer).output)
            last = next(layer for layer in reversed(self.model.layers) if layer.weights)
            return keras.Model(self.model.inputs, last.input)
        except (AttributeError, StopIteration, ValueError):
            if self.layer is not None:
                names = ", ".join(layer.name for layer in self.model.layers)
                raise UsageError(f"layer '{self.layer}': cannot be read; layers: {names}") from None
            return None

    def gradients(self) -> Gradients:
        """Differentiate the Keras model; see `AuditedModel`."""
        return self._gradients(self.model)

    def reference(
        self, train: NDArray[np.integer], judge: NDArray[np.integer], seed: int
    ) -> Gradients | None:
        """Train a model of the same kind with the user's function; see `AuditedModel`."""
        return None if self.fit is None else self._gradients(self.fit(train))

    def _gives_logits(self, model: keras.Model) -> bool:
        """Tell whether a model's output is logits: by its layers or, if they do not say, by trusted stays."""
        output = output_by_layers(model)
        if output is not None:
            return output == "logits"
        found = outputs_of(model, self.arrays.trusted).reshape(len(self.arrays.trusted), -1)
        probable = bool(((found >= 0) & (found <= 1)).all())
        if found.shape[1] > 1 and self.arrays.target.exclusive:
            probable = probable and bool((np.abs(found.sum(axis=1) - 1) < SUM_ERROR).all())
        return not probable

    def _risk(self, model: keras.Model) -> Risk:
        return lambda exposure: self.probabilities(model, self.arrays.of(exposure))

    def _gradients(self, model: keras.Model) -> Gradients:
        target, logits = self.arrays.target, self._gives_logits(model)
        x, masks = tf.constant(self.arrays.trusted), tf.constant(self.masks)
        if self.arrays.x.ndim == 2:
            x = x[:, None]

        def margins(stays: tf.Tensor, patterns: tf.Tensor) -> tf.Tensor:
            cells, measured = tf.gather(x, stays), tf.gather(masks, stays)
            shifted = cells + tf.cast(patterns[:, None], tf.float32)
            # A cell that was not measured stays NaN; its gradient is 0.
            shifted = tf.where(measured, shifted, cells)
            shifted = tf.reshape(shifted, [-1, *self.arrays.x.shape[1:]])
            odds = target.log_odds(model(shifted, training=False), logits=logits)
            return tf.reshape(odds, [tf.shape(patterns)[0], -1])

        return Gradients(margins, self._risk(model))


def output_by_layers(model: keras.Model) -> Literal["probabilities", "logits"] | None:
    """Tell by the last layers what a model's output is; None if they do not say."""
    # A graph also has operations such as `ops.sigmoid`. The layers of a user's class are in no order.
    ordered = model.layers if isinstance(model, keras.Sequential) else []
    operations = getattr(model, "operations", ordered)
    for operation in reversed(operations):
        if isinstance(operation, keras.Model):
            return output_by_layers(operation)
        if not hasattr(operation, "activation"):
            name = type(operation).__name__
        elif operation.activation is not None:
            name = getattr(operation.activation, "__name__", "")
        else:
            name = "linear"
        if name.lower().replace("_", "") in GIVE_PROBABILITIES:
            return "probabilities"
        if name == "linear" and operation.weights:
            return "logits"
        if name != "linear" and not isinstance(operation, PASS_ON):
            return None
    return None
