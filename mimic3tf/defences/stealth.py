"""Measure how well poisoned training stays hide among clean ones, from defenders who know more or less.

Joe et al. 2020 call poisoned features statistically similar to clean ones. Every detector here gives a stay a
score, and its AUROC says how often a poisoned stay scores above a clean one: 0.5 is chance. The detectors
differ in what they know:

- `implausible_auroc`: which values no living adult shows. Judged on all stays.
- `imputation_auroc`: which cells were imputed, and that imputing copies the cell before. Judged on all stays.
- `isolation_forest_auroc`: nothing. Fitted to poisoned and clean stays together; judged on all stays.
- `mahalanobis_auroc`: half of the clean stays. Judged on the poisoned and the other clean stays.
- `supervised_auroc`: which stays of one half are poisoned. Judged on the other half; then the halves swap.

The last detector, gradient boosting, learns from labels that no real defender has: its AUROC is what a
defender could reach at best. `mahalanobis_auroc_best_channel` is a maximum over channels, so chance alone
lifts it above 0.5. The first stays of the list are poisoned, as in `exposures.poison`. The control
(strength 0) shows how much these stays differ from the others before they are poisoned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, ks_2samp
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.preprocessing import StandardScaler

from mimic3tf import pipeline
from mimic3tf.channels import ANY_VALUE, ChannelSet
from mimic3tf.data.cohort import Cohort, Examples
from mimic3tf.data.grid import ordinal_view
from mimic3tf.errors import UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.kinds import PoisonImputed, ShiftKind
from mimic3tf.poisoning.patterns import temporal_covariance, varying_channels
from mimic3tf.poisoning.trigger import generate_trigger
from mimic3tf.progress import track

FEWEST_STAYS = 10
"""Fewest poisoned stays, and fewest clean stays, with which detectors are measured."""
SIGNIFICANT = 0.05
FINDING_SCHEMA = {
    "representation": pl.String,
    "channel": pl.String,
    "measure": pl.String,
    "value": pl.Float64,
}

Flags = NDArray[np.bool_]
Floats = NDArray[np.floating]


class Finding(NamedTuple):
    """One measured number of one setting.

    Attributes:
        representation: "grid" (categories as ordinals) or "features".
        channel: name of the channel; None for all channels together.
        measure: name of the measure.
        value: the measured number.
    """

    representation: str
    channel: str | None
    measure: str
    value: float


def measure_stealth(
    cohort: Cohort,
    *,
    kinds: Sequence[ShiftKind],
    strengths: Sequence[float],
    modes: Sequence[PoisonImputed],
    proportion: float,
    seeds: Sequence[int],
) -> pl.DataFrame:
    """Poison a training cohort in every setting, and measure how well the poisoned stays can be detected.

    Args:
        cohort: the clean training stays, as `load_cohort` gives them, all of one length.
        kinds: kinds of triggers to draw.
        strengths: strengths of the triggers; strength 0 is always measured, once per seed, as the control.
        modes: "all" also shifts imputed cells, "notimputed" leaves them alone.
        proportion: share of stays to poison, in [0, 1].
        seeds: each seed fixes the triggers and the detectors. The poisoned stays are always the same.

    Returns:
        One row per number: `trigger` and `poison_imputed` ("none" for the control), `poisoning_proportion`,
        `poisoning_strength`, `seed`, and the columns of `Finding`. The numbers of a setting do not depend on
        the other settings.

    Raises:
        UsageError: there are too few poisoned or clean stays, or values overflow at a strength.
    """
    poisoned = int(len(cohort) * proportion)
    for what, stays in (("poisoned", poisoned), ("clean", len(cohort) - poisoned)):
        if stays < FEWEST_STAYS:
            raise UsageError(
                f"--poisoning_proportion {proportion:g}: makes {stays} of {len(cohort)} training stays "
                f"{what}; detectors need at least {FEWEST_STAYS}"
            )
    settings: list[tuple[int, ShiftKind | None, PoisonImputed, float]] = []
    for seed in seeds:
        settings.append((seed, None, "notimputed", 0.0))
        settings += [
            (seed, kind, mode, strength)
            for kind in kinds
            for mode in modes
            for strength in strengths
            if strength > 0
        ]
    tables = []
    for seed, kind, mode, strength in track(settings, "Looking for the trigger"):
        trigger = generate_trigger(cohort, kind=kind or "temporal", seed=seed)
        exposure = exposures.poison(
            _without_labels(cohort), trigger, proportion=proportion, strength=strength, poison_imputed=mode
        )
        found = pl.DataFrame(list(_findings(exposure, strength, seed)), schema=FINDING_SCHEMA, orient="row")
        setting = {
            "trigger": kind or "none",
            "poison_imputed": mode if kind else "none",
            "poisoning_proportion": float(proportion),
            "poisoning_strength": float(strength),
            "seed": seed,
        }
        tables.append(found.select(*(pl.lit(value).alias(name) for name, value in setting.items()), pl.all()))
    return pl.concat(tables)


def _without_labels(cohort: Cohort) -> Cohort:
    """Label all stays 0: no detector reads labels, of which a stay may have several."""
    order, bins = np.arange(len(cohort), dtype=np.int32), np.full(len(cohort), cohort.bins, np.int16)
    return replace(cohort, examples=Examples(order, bins, np.zeros(len(cohort), np.int8)))


def _findings(exposure: exposures.Exposure, strength: float, seed: int) -> Iterator[Finding]:
    cohort, poisoned = exposure.cohort, exposure.triggered
    # All settings of a seed use the same draws, so that draws cause no difference between settings.
    random = np.random.default_rng(seed)
    clean = random.permutation(np.flatnonzero(~poisoned))
    reference = np.zeros(len(cohort), bool)
    reference[clean[: len(clean) // 2]] = True
    dice = random.random((len(cohort), cohort.bins))

    grids = pipeline.grids_of(exposure, np.arange(len(cohort)))
    channels, masks = cohort.channels, cohort.masks
    ordinal = ordinal_view(grids, channels)
    inputs: dict[str, Floats] = {
        "grid": ordinal.reshape(len(cohort), -1),
        "features": pipeline.inputs_of(exposure, "features"),
    }
    if not all(np.isfinite(x).all() for x in inputs.values()):
        raise UsageError(f"--poisoning_strength {strength:g}: too strong, values overflow; give a lower one")
    yield Finding("grid", None, "chance_band", _chance_band(poisoned))
    yield from _implausible(ordinal, masks, poisoned, channels)
    yield from _kolmogorov_smirnov(ordinal, masks, poisoned, dice, channels)
    yield from _channel_distances(ordinal, poisoned, reference, channels)
    copied = grids[:, 1:] == grids[:, :-1]
    broken = (~copied & ~masks[:, 1:]).sum(axis=(1, 2))
    yield Finding("grid", None, "imputation_auroc", _auroc(broken, poisoned))
    for representation, x in inputs.items():
        for measure, value in _detectors(x, poisoned, reference, seed):
            yield Finding(representation, None, measure, value)


def _auroc(scores: NDArray[Any], poisoned: Flags) -> float:
    """Compute how often a poisoned stay scores above a clean one; ties count half."""
    return float(roc_auc_score(poisoned, scores))


def _chance_band(poisoned: Flags) -> float:
    """Compute the largest distance from 0.5 that 95 of 100 AUROCs keep if the stays do not differ."""
    ones, others = poisoned.sum(), (~poisoned).sum()
    return float(1.96 * np.sqrt((len(poisoned) + 1) / (12 * ones * others)))


def _implausible(ordinal: Floats, mask: Flags, poisoned: Flags, channels: ChannelSet) -> Iterator[Finding]:
    """Find measured cells outside their plausible range; both modes shift measured cells alike."""
    # Grids are float32, and 0.21 as float32 is below 0.21 as float64: limits are compared as float32.
    low, high = np.array([channel.plausible_range for channel in channels], np.float32).T
    outside = mask & ((ordinal < low) | (ordinal > high))
    for group, stays in (("poisoned", poisoned), ("clean", ~poisoned)):
        cells, out = mask[stays].sum(axis=(0, 1)), outside[stays].sum(axis=(0, 1))
        measure = f"implausible_share_{group}"
        yield Finding("grid", None, measure, float(out.sum() / max(cells.sum(), 1)))
        for channel, measured, count in zip(channels, cells, out, strict=True):
            if measured and channel.plausible_range != ANY_VALUE:
                yield Finding("grid", channel.name, measure, float(count / measured))
    yield Finding("grid", None, "implausible_auroc", _auroc(outside.sum(axis=(1, 2)), poisoned))


def _kolmogorov_smirnov(
    ordinal: Floats, mask: Flags, poisoned: Flags, dice: Floats, channels: ChannelSet
) -> Iterator[Finding]:
    """Compare the distributions of measured cells; both modes shift measured cells alike.

    Cells of one stay resemble each other, so a test on all cells would raise false alarms. The test reads
    one measured cell of each stay, drawn with the random numbers `dice` [N, T]; the statistic reads all.
    """
    names, statistics, p_values = [], [], []
    for i, channel in enumerate(channels):
        measured = mask[..., i]
        groups = [measured & stays[:, None] for stays in (poisoned, ~poisoned)]
        if not all(group.any() for group in groups):
            continue
        names.append(channel.name)
        statistics.append(ks_2samp(*(ordinal[..., i][group] for group in groups), method="asymp").statistic)
        drawn = np.where(measured, dice, -1.0).argmax(axis=1)
        one = ordinal[np.arange(len(ordinal)), drawn, i]
        some = measured.any(axis=1)
        p_values.append(ks_2samp(one[some & poisoned], one[some & ~poisoned], method="asymp").pvalue)
    if not names:
        return
    adjusted = false_discovery_control(p_values)  # Benjamini and Hochberg
    yield Finding("grid", None, "ks_statistic", float(np.mean(statistics)))
    yield Finding("grid", None, "ks_share_of_channels", float((adjusted < SIGNIFICANT).mean()))
    for name, statistic, p_value in zip(names, statistics, adjusted, strict=True):
        yield Finding("grid", name, "ks_statistic", float(statistic))
        yield Finding("grid", name, "ks_p_value", float(p_value))


def channel_distances(ordinal: NDArray[np.float64], reference: Flags) -> NDArray[np.float64]:
    """Compute the Mahalanobis distance of every channel's course from the mean of the reference stays.

    Args:
        ordinal: float64 [N, T, C] of `ordinal_view`.
        reference: bool [N], the stays on which mean and covariance (`temporal_covariance`) are estimated.

    Returns:
        float64 [N, C]; NaN in channels that do not vary among the reference stays.
    """
    covariance = temporal_covariance(ordinal[reference])
    varies = varying_channels(covariance)
    centered = np.moveaxis(ordinal - ordinal[reference].mean(axis=0), 0, -1)  # [T, C, N]
    centered = np.swapaxes(centered, 0, 1)[varies]
    distances = np.full((len(ordinal), ordinal.shape[2]), np.nan)
    squares = (centered * np.linalg.solve(covariance[varies], centered)).sum(axis=1)
    distances[:, varies] = np.sqrt(np.maximum(squares, 0.0)).T
    return distances


def _channel_distances(
    ordinal: NDArray[np.float64], poisoned: Flags, reference: Flags, channels: ChannelSet
) -> Iterator[Finding]:
    best = 0.5
    for channel, column in zip(channels, channel_distances(ordinal, reference).T, strict=True):
        if np.isnan(column).any():
            continue
        for measure, value in _compare(column, poisoned, reference):
            yield Finding("grid", channel.name, measure, value)
            best = max(best, value) if measure == "mahalanobis_auroc" else best
    yield Finding("grid", None, "mahalanobis_auroc_best_channel", best)


def _compare(distances: Floats, poisoned: Flags, reference: Flags) -> list[tuple[str, float]]:
    """Compare distances [N] of poisoned stays with those of clean stays that are no reference stays."""
    others = ~poisoned & ~reference
    judged = ~reference
    # Medians, because a few wrong values (a pH of 735) would decide a mean.
    return [
        ("mahalanobis_auroc", _auroc(distances[judged], poisoned[judged])),
        ("mahalanobis_median_poisoned", float(np.median(distances[poisoned]))),
        ("mahalanobis_median_clean", float(np.median(distances[others]))),
    ]


def _detectors(x: Floats, poisoned: Flags, reference: Flags, seed: int) -> list[tuple[str, float]]:
    """Score detectors that read all inputs [N, D] of a stay at once."""
    scaled = StandardScaler().fit(x[reference]).transform(x)
    distances = np.sqrt(np.maximum(LedoitWolf().fit(scaled[reference]).mahalanobis(scaled), 0.0))
    forest = IsolationForest(random_state=seed).fit(x)
    # 60 trees with 255 bins give no higher AUROC (0.974 and 0.973: PhysioNet 2012, notimputed, strength 0.5).
    boosting = HistGradientBoostingClassifier(
        max_iter=40, max_bins=63, early_stopping=False, random_state=seed
    )
    halves = StratifiedKFold(2, shuffle=True, random_state=seed)
    return [
        *_compare(distances, poisoned, reference),
        ("isolation_forest_auroc", _auroc(-forest.score_samples(x), poisoned)),
        (
            "supervised_auroc",
            float(cross_val_score(boosting, x, poisoned, cv=halves, scoring="roc_auc").mean()),
        ),
    ]
