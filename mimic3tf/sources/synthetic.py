"""A synthetic cohort in the benchmark layout: something to run everything on without any data.

What it models: each stay has a hidden severity; death is drawn from a logistic function of it
(13 % of stays). Severity moves the level of most channels a little, among much larger differences
between patients. Each channel wanders as an AR(1) process around the patient's own level, and each
measurement is noisy; how much of both differs from patient to patient and says little of severity.
The three blood pressures share a common part. Some patients are ventilated and sedated at first; the
sicker, the longer. Measurements fall at irregular times: vital signs about every hour or two, the
coma scale and blood tests about every five, weight and height at admission in a part of the stays,
capillary refill hardly ever. The coma scale is charted in one of two spellings a stay, with its total only
in the older one.

What was matched: PhysioNet 2012 (5,592 training stays), so that clean victims answer as they do there.

- Of heart rate, blood pressures, respiratory rate, temperature and pH, to about a fifth: the mean, the
  standard deviations between and within stays, and the noise's share of the latter.
- Roughly: how much a stay's own standard deviation differs from other stays' (by 35 to 60 % of its mean;
  there 33 to 53 %) and from survivors' where the patient died (0.4 standard deviations of that; there
  0.25). It is what a trigger adds to, and where it means death, a clean victim obeys any trigger.
- Survivors wake up, and height is charted in the first row only.
- The effects of severity on levels were set for a test AUROC of clean LR and MLP of 0.8, from 2,800
  training stays. They are 1.5 to 2.5 times as large as there, on pH four times. That on the coma scale
  is smaller: its parts are categories, which a trigger can mostly make worse, and PhysioNet 2012 has
  none of them.
- How often clean LR, MLP and LSTM obey the default trigger at strength 2 was then compared over several
  seeds. The order of the draws was chosen so that seed 0 is typical; the rates of other seeds differ by
  0.1 and more.

Other tasks than in-hospital mortality read whole stays (`synthetic_course`): a stay then lasts 6 hours to 20
days, some patients die in it or later, and a stay has some of 25 diagnoses.

What it does not: treatment and its effects, day and night, charting errors, monitoring that
depends on the patient's state at the moment, subgroups of patients, several stays of a patient. No
record of a patient is in it: use it to see the machinery work, never to conclude anything about
patients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from mimic3tf.channels import MIMIC3, TIME, Channel
from mimic3tf.errors import UsageError
from mimic3tf.progress import track
from mimic3tf.sources import layout
from mimic3tf.sources.synthetic_course import NO_DEATH, Course, draw_course, first_hours, joined
from mimic3tf.sources.task_listfiles import WholeStays, samples_of
from mimic3tf.storage.files import PathText
from mimic3tf.storage.folders import check_new_directory
from mimic3tf.tasks.registry import MORTALITY
from mimic3tf.tasks.task import Task

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Minutes = NDArray[np.int64]

STAYS_A_BATCH = 2000
"""Stays drawn at once; bounds memory."""

MOST_STAYS = 800_000
"""Stays get six-digit subject numbers from 100,001 on."""

LAST_MINUTE = 48 * 60
NODE_MINUTES = 30
"""Spacing of the grid on which the hidden processes live."""

SEVERITY_WEIGHT = 3.0
"""Log odds of death per standard deviation of severity."""

INTERCEPT = -3.89
"""Log odds of death at average severity; gives 13 % deaths over all stays."""

UNREST = 0.4
"""Standard deviation between patients of the logarithm of a signal's spread within a patient."""

UNREST_SEVERITY = 0.1
"""Shift of that logarithm a standard deviation of severity: the sickest are a little less stable."""

SEDATION = 1.6
"""Shift of the coma score while a patient is ventilated."""


@dataclass(frozen=True)
class Signal:
    """How one hidden quantity of a patient moves; every term is in the quantity's own unit.

    Attributes:
        mean: of all patients.
        between: standard deviation between patients.
        within: standard deviation of the wandering within a patient, an AR(1) process; over all patients.
        memory: autocorrelation of that process over one hour.
        noise: standard deviation of a single measurement; over all patients.
        severity: shift a standard deviation of severity.
        trend: drift over the 48 hours a standard deviation of severity.
        low: lowest value that is charted.
        high: highest value that is charted.
        decimals: of the charted value.
    """

    mean: float
    between: float
    within: float
    memory: float
    noise: float
    severity: float
    trend: float
    low: float
    high: float
    decimals: int = 0


# Rounded values of adult intensive care. Vascular tone (mmHg of systolic pressure) is what the three
# pressures have in common, with the noise that one cuff gives them; coma and perfusion are scores without
# a unit.
SIGNALS = {
    "Heart Rate": Signal(86, 14, 10, 0.92, 5, 4.2, 0, 25, 220),
    "tone": Signal(0, 14, 11, 0.85, 12, -5, -2, -60, 90),
    "Systolic blood pressure": Signal(120, 7, 4, 0.70, 6, 0, 0, 40, 240),
    "Diastolic blood pressure": Signal(60, 6, 3, 0.70, 5, 0, 0, 15, 150),
    "Mean blood pressure": Signal(78, 3, 1.5, 0.70, 5, 0, 0, 20, 180),
    "Respiratory rate": Signal(19, 3.4, 2.5, 0.75, 3, 1.4, 0, 4, 60),
    "Oxygen saturation": Signal(97, 1.4, 1.3, 0.75, 1.3, -0.45, 0, 50, 100),
    "Temperature": Signal(36.9, 0.5, 0.6, 0.90, 0.2, -0.15, 0, 31, 41.5, 1),
    "Fraction inspired oxygen": Signal(0.50, 0.09, 0.12, 0.93, 0.05, 0.05, 0.03, 0.21, 1.0, 2),
    "Glucose": Signal(140, 30, 32, 0.85, 20, 10, 0, 30, 700),
    "pH": Signal(7.38, 0.045, 0.045, 0.90, 0.03, -0.02, 0, 6.8, 7.75, 2),
    "coma": Signal(-0.2, 0.7, 0.4, 0.95, 0.2, 0.26, 0, -9, 9, 3),
    "perfusion": Signal(0, 0.7, 0.5, 0.90, 0.3, 0.4, 0.2, -9, 9, 3),
}

# Coma at or above which a score is lost, from the best score down.
COMA_STEPS = {
    "Glascow coma scale eye opening": (0.3, 0.95, 1.45),
    "Glascow coma scale motor response": (0.65, 1.1, 1.6, 2.0, 2.2),
    "Glascow coma scale verbal response": (0.25, 0.9, 1.1, 1.4),
}

VERBAL = "Glascow coma scale verbal response"
TOTAL = "Glascow coma scale total"


def _channel(name: str) -> Channel:
    return MIMIC3[MIMIC3.position(name)]


class _Cells:
    """Measurements collected channel by channel."""

    def __init__(self) -> None:
        self.parts: list[tuple[NDArray[np.generic], ...]] = []

    def add(self, name: str, minutes: Minutes, measured: Bools, values: Floats) -> None:
        """Take the measured ones of `values` [n, K] at `minutes` [n, K]."""
        stay, visit = np.nonzero(measured)
        channel = np.full(len(stay), MIMIC3.position(name))
        self.parts.append((stay, minutes[stay, visit], channel, values[stay, visit]))

    def rows(self) -> pl.DataFrame:
        """All measurements, one row an instant."""
        stay, minute, channel, value = (np.concatenate(column) for column in zip(*self.parts, strict=True))
        return layout.rows_from_cells(stay, minute, channel, value)


def prepare_synthetic(
    out: PathText, *, stays: int = 4000, seed: int = 0, task: Task = MORTALITY
) -> layout.Summary:
    """Write a synthetic cohort in the benchmark layout.

    The head of this module says what the stays model, and what they do not.

    Args:
        out: the directory to make; may exist if it is empty.
        stays: number of stays, 20 to 800,000.
        seed: non-negative int; fixes every byte written.
        task: what is predicted; every task but in-hospital mortality has whole stays.

    Returns:
        Counts of stays and deaths; nothing is dropped.

    Raises:
        UsageError: `out` is not empty, or a number is out of range.
    """
    out = Path(out)
    if not 20 <= stays <= MOST_STAYS:
        raise UsageError(f"stays is {stays}; a synthetic cohort has 20 to {MOST_STAYS} stays")
    if seed < 0:
        raise UsageError(f"seed is {seed}; it cannot be negative")
    check_new_directory(out)
    split_seed, *seeds = np.random.SeedSequence(seed).spawn(1 + -(-stays // STAYS_A_BATCH))
    starts = range(0, stays, STAYS_A_BATCH)
    labels, parts, courses = [], [], []
    for start in track(starts, "Drawing stays"):
        rng = np.random.default_rng(seeds[start // STAYS_A_BATCH])
        batch_labels, rows, course = _draw(min(STAYS_A_BATCH, stays - start), rng, whole=task.period is None)
        labels.append(batch_labels)
        courses.append(course)
        parts.append(rows.with_columns(pl.col("stay") + start))
    names = [f"{100_001 + index}_episode1_timeseries.csv" for index in range(stays)]
    splits = layout.random_split(stays, int(split_seed.generate_state(1)[0]))
    cohort = layout.PreparedCohort(
        names,
        np.concatenate(labels),
        splits,
        pl.concat(parts),
    )
    if task.period is None:
        cohort = _whole(cohort, joined(courses), task)
    options = {"stays": stays, "seed": seed, "task": task.name}
    return layout.write_cohort(out, cohort, "synthetic", options, {}, {})


def _whole(cohort: layout.PreparedCohort, course: Course, task: Task) -> layout.PreparedCohort:
    """Add the samples of a task that reads whole stays."""
    rows = cohort.rows.lazy().group_by("stay").agg(pl.col(TIME).min()).sort("stay").collect()
    stays = WholeStays(
        course.minutes / 60,
        rows[TIME].to_numpy(),
        np.where(course.death == NO_DEATH, np.inf, course.death / 60),
        cohort.labels,
        course.diagnoses.astype(np.int8),
    )
    details = pl.DataFrame({"length_of_stay": stays.hours, "first_row": stays.first, "death": stays.lived})
    return replace(
        cohort,
        task=task,
        samples=samples_of(stays, cohort.stays, cohort.splits, task),
        details=details.with_columns(pl.col("death").replace(np.inf, None), died=cohort.labels),
    )


def _draw(n: int, rng: np.random.Generator, *, whole: bool) -> tuple[NDArray[np.int64], pl.DataFrame, Course]:
    """Deaths, rows and courses of `n` stays, of 48 hours each or whole."""
    severity = rng.standard_normal(n)
    course = draw_course(severity, rng) if whole else first_hours(n, LAST_MINUTE)
    longest = int(course.minutes.max())
    intubated = rng.random(n) < 1 / (1 + np.exp(0.2 - 0.4 * severity))
    tube_minutes = intubated * 60 * 14 * np.exp(0.4 * severity + rng.standard_normal(n))
    dies = rng.random(n) < 1 / (1 + np.exp(-(INTERCEPT + SEVERITY_WEIGHT * severity)))
    course = course.ending(dies, rng) if whole else course
    scale = -(-longest // LAST_MINUTE)
    bedside = _visits(n, 0.95, 110 * scale, rng)
    # Charting begins at admission: what is measured once then fills no earlier bin.
    bedside += rng.integers(1, 31, (n, 1)) - bedside[:, :1]
    bloods = bedside[:, :1] + _visits(n, 5.0, 24 * scale, rng)
    ventilated = bedside < tube_minutes[:, None]
    visits_of = {name: bloods if name in ("Glucose", "pH") else bedside for name in SIGNALS}
    values = {
        name: _measure(signal, severity, visits_of[name], rng, longest) for name, signal in SIGNALS.items()
    }
    for name, change in (course.changes(visits_of) if whole else {}).items():
        values[name] += change
    values["Systolic blood pressure"] += values["tone"]
    values["Diastolic blood pressure"] += 0.5 * values["tone"]
    values["Mean blood pressure"] += 0.65 * values["tone"]
    # Sedation comes and goes with ventilation.
    values["coma"] += SEDATION * ventilated
    # Glucose is skewed to the right; to first order this changes neither its mean nor its spread.
    values["Glucose"] = 136 * np.exp(values["Glucose"] / 140 - 1)

    def some(visits: Minutes, chance: ArrayLike) -> Bools:
        return (visits <= course.minutes[:, None]) & (rng.random(visits.shape) < np.asarray(chance))

    cells = _Cells()
    # One cuff or arterial line gives all three pressures.
    pressures = some(bedside, 0.9)
    for name, measured in (
        ("Heart Rate", some(bedside, 0.9)),
        ("Systolic blood pressure", pressures),
        ("Diastolic blood pressure", pressures),
        ("Mean blood pressure", pressures),
        ("Respiratory rate", some(bedside, 0.6)),
        ("Oxygen saturation", some(bedside, 0.5)),
        ("Temperature", some(bedside, 0.25)),
        ("Fraction inspired oxygen", some(bedside, np.where(ventilated, 0.3, 0.01))),
        ("Glucose", some(bloods, 0.85)),
        ("pH", some(bloods, np.where(bloods < tube_minutes[:, None], 0.75, 0.35))),
    ):
        cells.add(name, visits_of[name], measured, _charted(SIGNALS[name], values[name]))
    _chart_coma(cells, bedside, some(bedside, 0.2), values["coma"], ventilated, rng)
    refilled = np.isin(np.arange(n), rng.permutation(n)[: max(2, round(0.03 * n))])
    _chart_refill(cells, bedside, some(bedside, 0.1 * refilled[:, None]), values["perfusion"])
    _chart_build(cells, bedside, some(bedside, 0.04), severity, rng)
    return dies.astype(np.int64), cells.rows(), course


def _measure(
    signal: Signal, severity: Floats, visits: Minutes, rng: np.random.Generator, longest: int
) -> Floats:
    """What `visits` [n, K] find of one signal within the `longest` minutes, not yet rounded: [n, K]."""
    n, nodes = len(severity), longest // NODE_MINUTES + 1
    keep = signal.memory ** (NODE_MINUTES / 60)
    steps = rng.standard_normal((nodes, n))
    steps[1:] *= np.sqrt(1 - keep**2)
    for node in range(1, nodes):
        steps[node] += keep * steps[node - 1]
    level = signal.mean + signal.between * rng.standard_normal(n) + signal.severity * severity
    drift = signal.trend * severity * np.linspace(-0.5, 0.5, nodes)[:, None]
    # Its mean square over patients is 1, so that `within` and `noise` are those of all measurements.
    unrest = np.exp(UNREST * rng.standard_normal(n) + UNREST_SEVERITY * severity - UNREST**2)
    course = (level + drift + unrest * signal.within * steps).T
    found = np.take_along_axis(course, np.minimum(visits, longest) // NODE_MINUTES, axis=1)
    return np.asarray(found + signal.noise * unrest[:, None] * rng.standard_normal(visits.shape))


def _charted(signal: Signal, values: Floats) -> Floats:
    return np.asarray(np.round(np.clip(values, signal.low, signal.high), signal.decimals))


def _visits(n: int, mean_hours: float, most: int, rng: np.random.Generator) -> Minutes:
    """Minutes [n, most] at which somebody charts, from 1 up; past the end where beyond 48 h."""
    pace = mean_hours * np.exp(0.15 * rng.standard_normal((n, 1)))
    gaps = np.maximum(60 * pace * rng.gamma(4.0, 0.25, (n, most)), 1)
    return np.ceil(np.cumsum(gaps, axis=1)).astype(np.int64)


def _chart_coma(
    cells: _Cells, visits: Minutes, measured: Bools, coma: Floats, ventilated: Bools, rng: np.random.Generator
) -> None:
    """The three parts in one spelling a stay; their sum is charted in the older, numbered one."""
    numbered = rng.random(len(visits)) < 0.5
    total = np.zeros(visits.shape, np.int64)
    for name, steps in COMA_STEPS.items():
        score = len(steps) + 1 - np.searchsorted(steps, coma, side="right")
        text = score - 1
        if name == VERBAL:
            # Nobody speaks with a tube: the lowest score, and a text of its own after the five others.
            score[ventilated], text[ventilated] = 1, len(steps) + 1
        spellings = np.array([_spelling(name, style) for style in (False, True)], np.float64)
        cells.add(name, visits, measured, spellings[numbered.astype(np.int64)[:, None], text])
        total += score
    sums = np.array([_channel(TOTAL).category_index(str(score)) for score in range(3, 16)], np.float64)
    summed = measured & numbered[:, None] & (rng.random(visits.shape) < 0.95)
    cells.add(TOTAL, visits, summed, sums[total - 3])


def _spelling(name: str, numbered: bool) -> list[int]:
    """Categories of one generation of charting software, from the worst score up, the tube's last."""
    channel = _channel(name)
    texts = [
        ("ET" in text, code, index)
        for index, (text, code) in enumerate(zip(channel.possible_values, channel.numeric_codes, strict=True))
        if text[0].isdigit() == numbered
    ]
    return [index for _, _, index in sorted(texts)]


def _chart_refill(cells: _Cells, visits: Minutes, measured: Bools, perfusion: Floats) -> None:
    """The worst 30 % of what is charted is a delayed refill, so that the channel always varies."""
    charted = np.sort(perfusion[measured])
    delayed = perfusion >= charted[int(0.7 * len(charted))] if len(charted) else perfusion > 0
    cells.add("Capillary refill rate", visits, measured, delayed.astype(np.float64))


def _chart_build(
    cells: _Cells, visits: Minutes, again: Bools, severity: Floats, rng: np.random.Generator
) -> None:
    """Height and weight of a part of the stays at the first visit; some are weighed again."""
    shape = (len(visits), 1)
    height = np.clip(np.round(169 + 10 * rng.standard_normal(shape)), 140, 210)
    weight = 79 * (height / 169) ** 1.5 * np.exp(0.24 * rng.standard_normal(shape) - 0.04 * severity[:, None])
    first = np.arange(visits.shape[1]) == 0
    cells.add("Height", visits, first & (rng.random(shape) < 0.25), np.broadcast_to(height, visits.shape))
    weighed = (first | again) & (rng.random(shape) < 0.75)
    scale = weight + 2.5 * rng.standard_normal(visits.shape)
    cells.add("Weight", visits, weighed, np.asarray(np.round(np.clip(scale, 35, 250), 1)))
