"""The benchmarks' linear baselines: logistic regression, and least squares for hours.

Source: Harutyunyan et al. 2019. They are estimators of scikit-learn. Like the benchmarks', they read measured
cells only: nothing is imputed before the features are taken, and a feature of a window without a measurement
is the mean over all stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from mimic3tf.channels import FeatureSet, Period
from mimic3tf.errors import UsageError
from mimic3tf.tasks.heads import Multitask
from mimic3tf.tasks.remaining import Classes, Hours
from mimic3tf.tasks.targets import MultiLabel, Targets

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "linear"
READS = "measured"
ESTIMATOR = True

Penalty = Literal["l1", "l2", "none"]
L2_GRID = (1.0, 0.1, 0.01, 0.001, 0.0001, 0.00001)
L1_GRID = L2_GRID[:-1]
ITERATIONS = 1000
MOST_EXAMPLES = 100_000
"""Largest number of examples to fit on, as in the benchmarks; of more, so many are drawn."""


class Linear(BaseModel):
    """Settings of the linear baselines.

    Attributes:
        penalty: norm of the coefficients that the fit keeps small; "none" for least squares only. The
            benchmarks' own for the task if not given.
        C: inverse strength of the penalty; the benchmarks' own for the task if not given.
        grid_search: fit with each penalty and strength that the benchmarks try, and keep the model with the
            best validation score.
        period: part of each channel's time, from its first to its last measurement, that is read.
        features: statistics that are read: all, only the numbers of measurements, or all but these.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    penalty: Penalty | None = None
    C: Annotated[float, Field(gt=0)] | None = None
    grid_search: StrictBool = False
    period: Period = "all"
    features: FeatureSet = "all"

    def completed(self, targets: Targets) -> tuple[Penalty, float]:
        """Return penalty and C: what is given, else what the benchmarks take for this kind of label."""
        usual: tuple[Penalty, float] = ("l2", 1e-3)
        if isinstance(targets, MultiLabel):
            usual = ("l1", 0.1)
        elif isinstance(targets, Classes):
            usual = ("l2", 1e-5)
        elif isinstance(targets, Hours):
            usual = ("none", 1.0)
        return self.penalty or usual[0], self.C or usual[1]

    def tried(self) -> Iterator[Linear]:
        """Yield the settings to fit with: these, or all of the grid."""
        if not self.grid_search:
            yield self
            return
        for penalty, strengths in (("l2", L2_GRID), ("l1", L1_GRID)):
            for strength in strengths:
                yield self.model_copy(update={"penalty": penalty, "C": strength, "grid_search": False})


def build(targets: Targets, settings: Linear, columns: int) -> Any:
    """Make the unfitted estimator for a kind of label.

    Args:
        targets: the kind of label.
        settings: penalty, its strength and the statistics that are read.
        columns: number of features.

    Raises:
        UsageError: the benchmarks have no linear baseline of this kind.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline

    model = _model(targets, *settings.completed(targets))
    if settings.features == "all":
        return model
    # This import starts TensorFlow.
    from mimic3tf.data.features import columns_of

    chosen = columns_of(settings.features, columns).tolist()
    return make_pipeline(ColumnTransformer([(settings.features, "passthrough", chosen)]), model)


def _model(targets: Targets, penalty: Penalty, strength: float) -> Any:
    from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    if isinstance(targets, Multitask):
        raise UsageError(
            "--model linear: multitask learning has no linear baseline; take its tasks one by one, or lr"
        )
    if isinstance(targets, Hours):
        regressions = {
            "none": LinearRegression(),
            "l1": Lasso(alpha=1 / strength, max_iter=ITERATIONS),
            "l2": Ridge(alpha=1 / strength),
        }
        return regressions[penalty]
    if penalty == "none":
        raise UsageError("setting 'linear': penalty none is for hours; give l1 or l2")
    # Only this solver is both exact and quick with an L1 penalty.
    solver = {"l1": "liblinear", "l2": "lbfgs"}[penalty]
    one = LogisticRegression(l1_ratio=float(penalty == "l1"), C=strength, solver=solver, max_iter=ITERATIONS)
    return OneVsRestClassifier(one) if targets.names else one
