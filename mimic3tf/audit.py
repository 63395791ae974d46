"""Audit training data and models: is there a backdoor?

Four ways in, from the least to the most that a defender has::

    report = mimic3tf.audit.training_set(x, y, trusted=(xt, yt))            # arrays, no model
    report = mimic3tf.audit.model(predict, x, y, trusted=(xt, yt))          # any function that predicts
    report = mimic3tf.audit.keras_model(model, x, y, trusted=(xt, yt))      # a Keras model, or its file
    report = mimic3tf.audit.run(run, "data/synthetic")                      # a run of `mimic3tf.train`
    print(report.verdict)
    report.save("audits/ours")

Arrays: x [N, T, C] holds N stays of T bins in C channels, or [N, D] a table; NaN where nothing was measured.
y [N] holds labels 0 and 1, or classes 0, 1, 2, ...; or [N, L] holds L labels of 0 and 1. Trusted stays are
stays of the same source that nobody can have tampered with. Nothing leaves the machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mimic3tf.api import check_is_run
from mimic3tf.config import LARGEST_SEED
from mimic3tf.described import Described
from mimic3tf.errors import DataError, UsageError
from mimic3tf.startup import start_tensorflow
from mimic3tf.storage.files import PathText

if TYPE_CHECKING:
    import keras
    import polars as pl

    from mimic3tf.channels import ChannelSet
    from mimic3tf.defences.array_evidence import OwnStays
    from mimic3tf.defences.audit import AuditResult
    from mimic3tf.defences.conclusion import Conclusion
    from mimic3tf.defences.evidence import AuditedModel
    from mimic3tf.poisoning.any_model import Predict
    from mimic3tf.training.run_directory import Run

Pair = tuple[ArrayLike, ArrayLike]


@dataclass(frozen=True, repr=False)
class AuditReport(Described):
    """The findings of an audit.

    Attributes:
        result: all findings.
    """

    result: AuditResult

    def __repr__(self) -> str:
        return f"<AuditReport: {self.verdict.level}, {len(self.suspects)} stays ranked in suspects>"

    @property
    def verdict(self) -> Conclusion:
        """The conclusion: `level` ("suspicious", "weak sign", "no sign"), `sentence`, `p_value`, `checks`."""
        return self.result.conclusion

    @property
    def suspects(self) -> pl.DataFrame:
        """Training stays of the suspected label, the most suspicious first: `rank`, `stay`, `reason`, ..."""
        return self.result.suspects

    @property
    def cleaned(self) -> pl.DataFrame | None:
        """The training stays that a filter kept (`stay`, `y_true`); None if nothing was dropped."""
        return self.result.cleaned

    @property
    def repaired(self) -> Any:
        """The model that was trained on `cleaned`; None if nothing was dropped."""
        return None if self.result.filtered is None else self.result.filtered.model

    @property
    def record(self) -> dict[str, Any]:
        """The contents of `audit.json`."""
        return self.result.record

    def to_html(self) -> str:
        """Return the page of the audit, which needs no other file. It shows measurements of suspects."""
        from mimic3tf.report.audit_page import audit_page

        return audit_page(self.result)

    def save(self, folder: PathText) -> None:
        """Write `audit.json`, tables, `audit.html` and figures for TensorBoard into a folder.

        An audit that is there already is replaced.

        Raises:
            UsageError: the folder cannot be made, or not be written to.
        """
        from mimic3tf.storage.folders import claimed

        try:
            with claimed(Path(folder)):
                self.write(Path(folder))
        except OSError as error:
            raise UsageError(
                f"{folder}: the audit cannot be written ({error.strerror}); name another folder"
            ) from error

    def write(self, folder: Path) -> list[Path]:
        """Write the files of `save` into a folder that exists; return those that are not for TensorBoard."""
        from mimic3tf.dashboards.audit import write_figures
        from mimic3tf.defences.audit import write_audit

        page = self.to_html()
        write_figures(folder, self.result)
        return write_audit(folder, self.result, page)


def training_set(
    x: ArrayLike,
    y: ArrayLike,
    *,
    trusted: Pair,
    ids: Iterable[object] | None = None,
    channels: Sequence[str] | ChannelSet | None = None,
    target: int | None = None,
    seed: int = 0,
    all_detectors: bool = False,
    power: int = 0,
) -> AuditReport:
    """Look for poisoned stays in training data; no model is needed.

    Args:
        x: numbers [N, T, C] or [N, D], in the channels' units; NaN where nothing was measured.
        y: labels [N] or [N, L].
        trusted: x and y of the M trusted stays, which may differ in the number of stays only. There must be
            at least 10 of each label; some hundreds of the suspected label make an audit sharp. No stay may
            be a copy of another one.
        ids: names of the training stays [N]; 0, 1, 2, ... if not given.
        channels: names of the channels or columns; or a `ChannelSet`.
        target: the label that an attacker may have given to poisoned stays: 1 if not given, and needed if
            there are more than two classes or several labels a stay (then a column of y).
        seed: fixes all random choices.
        all_detectors: whether to use the detectors, too, that were never the best one.
        power: number of simulated attacks for each of six strengths and shares; says what could be missed.

    Returns:
        The conclusion, the suspects and all findings.

    Raises:
        DataError: an array has the wrong shape, or holds something else than numbers.
        UsageError: `target` is missing or unknown, there are too few stays, or all trusted stays are training
            stays.
    """
    start_tensorflow()
    _check_settings(seed, power)
    stays = _stays(x, y, trusted, ids, channels, target)
    return _audited(stays, None, "no model", seed, all_detectors, power)


def model(
    predict: Predict | NDArray[np.floating],
    x: ArrayLike,
    y: ArrayLike,
    *,
    trusted: Pair,
    activations: NDArray[np.floating] | tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
    fit: Callable[[Any, Any], Predict] | None = None,
    ids: Iterable[object] | None = None,
    channels: Sequence[str] | ChannelSet | None = None,
    target: int | None = None,
    seed: int = 0,
    all_detectors: bool = False,
    power: int = 0,
) -> AuditReport:
    """Look for a backdoor in training data and in any model that was trained on them.

    Args:
        predict: the model: float32 arrays [K, T, C] or [K, D] as in `x`, NaN included -> probabilities of
            label 1 [K], or of every class or label [K, L]. For scikit-learn, `classifier.predict_proba`. If
            the model itself is out of reach, its predictions for the training stays [N].
        x: as for `training_set`.
        y: as for `training_set`.
        trusted: as for `training_set`; the model must not have been trained on these stays.
        activations: what the last layer reads, for the training stays [N, H]; or a pair with those of the
            trusted stays [M, H].
        fit: trains the model on x and y as they are given here, and returns its `predict`; with it the
            suspects are dropped, and the model is trained again.
        ids: as for `training_set`.
        channels: as for `training_set`.
        target: as for `training_set`.
        seed: fixes all random choices.
        all_detectors: as for `training_set`.
        power: as for `training_set`.

    Returns:
        The conclusion, the suspects and all findings.

    Raises:
        DataError: an array has the wrong shape, or holds something else than numbers; or `predict` returns
            something else than probabilities.
        UsageError: as for `training_set`.
    """
    start_tensorflow()
    from mimic3tf.defences.own_model import OwnModel

    _check_settings(seed, power)
    _check_fit(fit)
    stays = _stays(x, y, trusted, ids, channels, target)
    arrays = stays.arrays()
    seen = _seen(activations, len(stays.training), len(stays.trusted))
    if isinstance(predict, np.ndarray):
        known = stays.target.probability(predict, len(stays.training))
        own = OwnModel(arrays, known=known, seen=seen)
    else:
        _check_callable(predict, "predict")
        own = OwnModel(arrays, predict, seen=seen)
    # Predictions that do not fit are refused before the long work.
    own.predictions()
    report = _audited(stays, own, "own model", seed, all_detectors, power)
    if fit is None:
        return report

    def refit(kept: NDArray[np.bool_]) -> tuple[Any, NDArray[np.float64]]:
        repaired = fit(np.asarray(x)[kept], np.asarray(y)[kept])
        _check_callable(repaired, "what fit returned")
        return repaired, OwnModel(arrays, repaired).risk_of(arrays.trusted)

    return _with_filter(report, refit)


def keras_model(
    model: keras.Model | PathText,
    x: ArrayLike,
    y: ArrayLike,
    *,
    trusted: Pair,
    layer: str | None = None,
    fit: Callable[[Any, Any], keras.Model] | None = None,
    trust_model: bool = False,
    ids: Iterable[object] | None = None,
    channels: Sequence[str] | ChannelSet | None = None,
    target: int | None = None,
    seed: int = 0,
    all_detectors: bool = False,
    power: int = 0,
) -> AuditReport:
    """Look for a backdoor in training data and in a Keras model that was trained on them.

    Beside what `model` does, activations are read and triggers are inverted.

    Args:
        model: the model, or its `.keras` file. It reads arrays like `x`: one with NaN must fill these cells
            itself. Its output is one sigmoid, one logit, or one column for each class or label, as
            probabilities or logits.
        x: as for `training_set`.
        y: as for `training_set`.
        trusted: as for `training_set`; the model must not have been trained on these stays.
        layer: name of the layer whose output counts as activations; what the last layer with weights reads if
            not given.
        fit: trains a model of the same kind on x and y as they are given here, and returns it. With it
            inverted triggers are compared with those of clean models; and the suspects are dropped, and the
            model is trained again.
        trust_model: whether code in the file may run.
        ids: as for `training_set`.
        channels: as for `training_set`.
        target: as for `training_set`.
        seed: fixes all random choices.
        all_detectors: as for `training_set`.
        power: as for `training_set`.

    Returns:
        The conclusion, the suspects and all findings.

    Raises:
        DataError: an array or the file is malformed.
        UsageError: the model reads other arrays, or its output does not fit the labels; or the file holds
            code and `trust_model` is not set; or as for `training_set`.
    """
    start_tensorflow()
    from mimic3tf.defences.keras_file import check_reads, load_keras_model
    from mimic3tf.defences.own_model import OwnKerasModel

    _check_settings(seed, power)
    _check_fit(fit)
    read = (
        load_keras_model(Path(model), trust=trust_model) if isinstance(model, (str, os.PathLike)) else model
    )
    stays = _stays(x, y, trusted, ids, channels, target)
    arrays = stays.arrays()
    check_reads(read, arrays.x)

    def trained(given: Any, labels: Any) -> keras.Model:
        assert fit is not None
        made = fit(given, labels)
        check_reads(made, arrays.x)
        return made

    def reference(rows: NDArray[np.integer]) -> keras.Model:
        return trained(np.asarray(trusted[0])[rows], np.asarray(trusted[1])[rows])

    own = OwnKerasModel(arrays, read, layer, stays.trusted.masks, reference if fit else None)
    # Predictions and layers that do not fit are refused before the long work.
    own.predictions(), own.activations("training", np.arange(1))
    report = _audited(stays, own, "own Keras model", seed, all_detectors, power)

    def refit(kept: NDArray[np.bool_]) -> tuple[Any, NDArray[np.float64]]:
        repaired = trained(np.asarray(x)[kept], np.asarray(y)[kept])
        return repaired, own.probabilities(repaired, arrays.trusted)

    return report if fit is None else _with_filter(report, refit)


def run(
    run: Run,
    data: PathText,
    *,
    repairs: bool = True,
    all_detectors: bool = False,
    follow_links: bool = False,
) -> AuditReport:
    """Look for a backdoor in a victim and in its training stays, as the owner of the victim could.

    Args:
        run: the run of the victim.
        data: the benchmark directory on which the victim was trained.
        repairs: whether to try repairs; if the attack is known, the repaired victims are attacked with it.
        all_detectors: whether to use the detectors, too, that were never the best one.
        follow_links: read links that lead out of the benchmark directory, too.

    Returns:
        The conclusion, the suspects and the findings of all defences.

    Raises:
        UsageError: the run was trained on other stays, or the stays are too few.
        DataError: the data is malformed, or no test stay has the attacked label.
    """
    check_is_run(run)
    start_tensorflow()
    from mimic3tf.defences.audit import audit_run

    options: dict[str, Any] = {"repairs": repairs, "all_detectors": all_detectors}
    return AuditReport(audit_run(run, Path(data), follow_links=follow_links, **options))


def _stays(
    x: ArrayLike,
    y: ArrayLike,
    trusted: Pair,
    ids: Iterable[object] | None,
    channels: Sequence[str] | ChannelSet | None,
    target: int | None,
) -> OwnStays:
    from mimic3tf.defences.array_evidence import stays_of_arrays

    return stays_of_arrays(x, y, trusted, ids=ids, channels=channels, target=target)


def _audited(
    stays: OwnStays, model: AuditedModel | None, name: str, seed: int, all_detectors: bool, power: int
) -> AuditReport:
    from mimic3tf.defences.audit import audit_stays

    evidence = stays.evidence(model, "x and trusted")
    return AuditReport(
        audit_stays(
            evidence,
            "arrays",
            name,
            seed=int(seed),
            all_detectors=all_detectors,
            power=power,
            target=stays.target.in_words,
        )
    )


def _with_filter(
    report: AuditReport, refit: Callable[[NDArray[np.bool_]], tuple[Any, NDArray[np.float64]]]
) -> AuditReport:
    from mimic3tf.defences.detection import suspicion_to_filter_by
    from mimic3tf.defences.repairs.own_filter import filter_own

    result = report.result
    suspicion = suspicion_to_filter_by(result.found, result.evidence)
    return AuditReport(result.with_repairs(filter_own(result.evidence, suspicion, refit)))


def _seen(
    activations: NDArray[np.floating] | tuple[NDArray[np.floating], NDArray[np.floating]] | None,
    training: int,
    trusted: int,
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    pair = activations if isinstance(activations, tuple) else (activations, None)
    checked: list[NDArray[np.float64] | None] = []
    for part, stays in zip(pair, (training, trusted), strict=True):
        if part is None:
            checked.append(None)
            continue
        try:
            found = np.asarray(part, np.float64)
        except (TypeError, ValueError):
            raise DataError(f"activations: give an array of numbers, [{stays}, H]") from None
        if found.ndim != 2 or len(found) != stays or not np.isfinite(found).all():
            raise DataError(
                f"activations: shape {found.shape}; expected [{stays}, H] of finite numbers, or a pair of "
                f"[{training}, H] and [{trusted}, H]"
            )
        if not np.ptp(found, axis=0).any():
            raise DataError("activations: are the same for all stays; give what the last layer reads")
        checked.append(found)
    if checked[0] is not None and checked[1] is not None and checked[0].shape[1] != checked[1].shape[1]:
        widths = " and ".join(str(found.shape[1]) for found in checked if found is not None)
        raise DataError(
            f"activations: those of training and of trusted stays have widths {widths}; give one H"
        )
    return checked[0], checked[1]


def _check_settings(seed: int, power: int) -> None:
    if not isinstance(seed, int | np.integer) or not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"seed: is {seed!r}; give a whole number from 0 to {LARGEST_SEED}")
    if not isinstance(power, int | np.integer) or power < 0:
        raise UsageError(f"power: is {power!r}; give a whole number from 0 on")


def _check_fit(fit: object) -> None:
    if fit is not None and not callable(fit):
        raise UsageError(
            f"fit: is a {type(fit).__name__}; give a function of x and y that trains the model and returns it"
        )


def _check_callable(function: object, name: str) -> None:
    if not callable(function):
        raise UsageError(
            f"{name}: is a {type(function).__name__}; give a function of arrays, such as "
            "classifier.predict_proba"
        )
