"""Estimators of scikit-learn as victims: how one is made, fitted and asked, and the file that holds it.

The file is written and read by skops: unlike a pickle it runs nothing, and it names the types that it holds,
so that foreign ones are refused.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import has_fit_parameter

from mimic3tf.config import TrainingConfig
from mimic3tf.described import Described
from mimic3tf.errors import UsageError
from mimic3tf.storage.stored_zip import read_stored
from mimic3tf.tasks.registry import task_of
from mimic3tf.tasks.remaining import Classes, Hours
from mimic3tf.tasks.targets import Binary, MultiLabel, Targets
from mimic3tf.victims import victim_of
from mimic3tf.victims.linear import MOST_EXAMPLES, Linear
from mimic3tf.victims.own import is_own, naming_faults

LIBRARIES = {"sklearn", "numpy", "scipy"}
"""Packages whose types a file of an estimator may hold, beside those of the estimator itself."""
LARGEST_LOGIT = 500.0


@dataclass(frozen=True, repr=False)
class FittedEstimator(Described):
    """A fitted estimator, which is asked for logits as a Keras model is.

    Attributes:
        estimator: has `predict_proba` or `decision_function`, and knows the labels 0 and 1; it predicts
            several labels, classes or hours if the `targets` are such.
        targets: the kind of label.
    """

    estimator: Any
    targets: Targets = field(default_factory=Binary)

    def logits(self, inputs: NDArray[np.floating]) -> NDArray[np.float64]:
        """Compute the outputs [N, ...] that a network would have for inputs [N, D].

        The probability that follows from them is that of `predict_proba`, to rounding. An estimator of one
        label without this method gives its margin as the logit: a risk that is not calibrated.

        Returns:
            Two logits [N, 2] of one label, of which the first is 0; a logit for each of several labels; the
            logarithm of the probability of each of the classes; or hours [N, 1], at least 0.
        """
        if isinstance(self.targets, Hours):
            return np.maximum(np.asarray(self.estimator.predict(inputs), np.float64), 0.0)[:, None]
        if isinstance(self.targets, MultiLabel):
            risks = np.asarray(self.estimator.predict_proba(inputs), np.float64)
            with np.errstate(divide="ignore"):
                return np.clip(np.log(risks) - np.log1p(-risks), -LARGEST_LOGIT, LARGEST_LOGIT)
        if isinstance(self.targets, Classes):
            # A class that no training example has is not predicted.
            known = np.zeros((len(inputs), len(self.targets.names)))
            known[:, self.estimator.classes_] = self.estimator.predict_proba(inputs)
            with np.errstate(divide="ignore"):
                return np.maximum(np.log(known), -LARGEST_LOGIT)
        if hasattr(self.estimator, "predict_proba"):
            one = list(self.estimator.classes_).index(1)
            risk = np.asarray(self.estimator.predict_proba(inputs), np.float64)[:, one]
            with np.errstate(divide="ignore"):
                logit = np.log(risk) - np.log1p(-risk)
        else:
            logit = np.asarray(self.estimator.decision_function(inputs), np.float64)
        logit = np.clip(logit, -LARGEST_LOGIT, LARGEST_LOGIT)
        return np.stack([np.zeros_like(logit), logit], axis=1)


def make_estimator(config: TrainingConfig, columns: int) -> Any:
    """Make the unfitted estimator, and set the seed of every part of it that has none.

    Args:
        config: names the user's function, or the linear baselines.
        columns: number of features D.

    Raises:
        UsageError: the function fails, or returns no unfitted estimator that predicts risks and can be saved.
    """
    name = config.model
    if not is_own(name):
        estimator = victim_of(name).build(config.head.targets, config.linear or Linear(), columns)
        return _ready(config, estimator)
    if task_of(config.task).targets.names:
        raise UsageError(
            f"'{name}': an estimator of scikit-learn predicts one label, and {config.task} has several; "
            "write build(input_shape, head) for a Keras model"
        )
    with naming_faults(name):
        estimator = victim_of(name).build()
    if not (isinstance(estimator, BaseEstimator) and hasattr(estimator, "fit")):
        raise UsageError(
            f"'{name}': returns a {type(estimator).__name__}; return an unfitted estimator of scikit-learn, "
            "or write build(input_shape, head) for a Keras model"
        )
    if not (hasattr(estimator, "predict_proba") or hasattr(estimator, "decision_function")):
        raise UsageError(
            f"'{name}': its {type(estimator).__name__} has neither predict_proba nor decision_function; "
            "return a classifier that has one of them"
        )
    return _ready(config, estimator)


def _ready(config: TrainingConfig, estimator: Any) -> Any:
    """Set the seed of every part of an estimator that has none, and check that it can be saved."""
    name = config.model
    if find_spec("skops") is None:
        raise UsageError(f"'{name}': to save an estimator needs skops; pip install 'mimic3tf[estimators]'")
    unset = [
        key
        for key, value in estimator.get_params().items()
        if value is None and key.rpartition("__")[2] == "random_state"
    ]
    with naming_faults(name):
        estimator.set_params(**dict.fromkeys(unset, config.seed))
    dump_estimator(name, estimator)
    return estimator


def fit_estimator(
    config: TrainingConfig, estimator: Any, inputs: Any, labels: NDArray[Any]
) -> FittedEstimator:
    """Fit an estimator on standardized inputs [N, D] and labels [N, ...], with the settings' class weights.

    Raises:
        UsageError: it cannot be fitted, or takes no weights although the settings give some.
    """
    weights = {}
    if not is_own(config.model) and len(labels) > MOST_EXAMPLES:
        chosen = np.random.default_rng(config.seed).choice(len(labels), MOST_EXAMPLES, replace=False)
        inputs, labels = inputs[chosen], labels[chosen]
    if len(set(config.class_weights)) > 1:
        if not has_fit_parameter(estimator, "sample_weight"):
            raise UsageError(
                f"setting 'class_weights': {type(estimator).__name__} takes no weights of stays; give [1, 1]"
            )
        weights["sample_weight"] = np.array(config.class_weights)[labels]
    with naming_faults(config.model), warnings.catch_warnings():
        # A label that no training stay has is given to none.
        warnings.filterwarnings("ignore", "Label .* is present in all training examples", UserWarning)
        fitted = FittedEstimator(estimator.fit(inputs, labels, **weights), config.head.targets)
        fitted.logits(inputs[:1])
    return fitted


def dump_estimator(name: str, estimator: Any) -> bytes:
    """Return the content of the file of an estimator.

    Raises:
        UsageError: it holds something that the file cannot hold.
    """
    import skops.io

    try:
        content = skops.io.dumps(estimator)
        load_estimator(content, estimator, Binary())
    except Exception as error:  # skops and the parts of an estimator raise many kinds of errors
        fault = " ".join(str(error).split())
        raise UsageError(f"'{name}': its {type(estimator).__name__} cannot be saved: {fault}") from None
    return bytes(content)


def load_estimator(content: bytes, unfitted: Any, targets: Targets) -> FittedEstimator:
    """Read the file of an estimator; no code in it is run.

    Args:
        content: the content of the file.
        unfitted: the same estimator as `make_estimator` makes it; it says whose types the file may hold.
        targets: the kind of label.

    Raises:
        ValueError: the file is damaged, or holds a type of another package.
    """
    import skops.io

    read_stored(content)
    allowed = LIBRARIES | {
        type(part).__module__.partition(".")[0]
        for part in (unfitted, *unfitted.get_params().values())
        if isinstance(part, BaseEstimator)
    }
    types = skops.io.get_untrusted_types(data=content)
    foreign = [found for found in types if found.partition(".")[0] not in allowed]
    if foreign:
        raise ValueError(f"holds {', '.join(foreign)}, of another package than the estimator")
    estimator = skops.io.loads(content, trusted=types)
    if type(estimator) is not type(unfitted):
        raise ValueError(f"holds a {type(estimator).__name__}")
    return FittedEstimator(estimator, targets)
