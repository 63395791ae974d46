import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mimic3tf import pipeline
from mimic3tf.channels import MIMIC3
from mimic3tf.data.directory import SPLITS
from mimic3tf.data.loading import load_cohort
from mimic3tf.data.records import Records, read_series
from mimic3tf.errors import UsageError
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.trigger import generate_trigger
from mimic3tf.sources.layout import Summary
from mimic3tf.sources.synthetic import prepare_synthetic

NAMES = list(MIMIC3.names)
STAYS = 1500


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    out = tmp_path_factory.mktemp("synthetic") / "out"
    return out, prepare_synthetic(out, stays=STAYS, seed=11)


def listfile(out: Path, split: str) -> tuple[list[Path], np.ndarray]:
    lines = [line.split(",") for line in (out / f"{split}_listfile.csv").read_text().splitlines()[1:]]
    folder = "test" if split == "test" else "train"
    return [out / folder / name for name, _ in lines], np.array([int(label) for _, label in lines])


@pytest.fixture(scope="module")
def train(cohort: tuple[Path, Summary]) -> Records:
    return read_series(listfile(cohort[0], "train")[0], MIMIC3)[0]


def measured(records: Records, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stay, hours and value of each measurement of a channel."""
    values = records.values[:, NAMES.index(name)]
    there = ~np.isnan(values)
    return records.stay[there], records.hours[there], values[there]


def features(records: Records, stays: int) -> np.ndarray:
    """Mean, minimum, maximum, last value, spread and count of each channel; normal where unmeasured."""
    columns = []
    for channel in MIMIC3:
        stay, _, value = measured(records, channel.name)
        if channel.is_categorical:
            value = np.array(channel.numeric_codes)[value.astype(int)]
        count = np.bincount(stay, minlength=stays)
        total = np.bincount(stay, value, stays)
        mean = np.divide(total, count, out=np.full(stays, np.mean(value)), where=count > 0)
        square = np.bincount(stay, (value - mean[stay]) ** 2, stays) / np.maximum(count, 1)
        low, high, last = mean.copy(), mean.copy(), mean.copy()
        np.minimum.at(low, stay, value)
        np.maximum.at(high, stay, value)
        last[stay] = value
        columns += [mean, low, high, last, np.sqrt(square), count]
    return np.column_stack(columns)


VITAL_SIGNS = [
    "Heart Rate",
    "Systolic blood pressure",
    "Diastolic blood pressure",
    "Mean blood pressure",
    "Respiratory rate",
    "Oxygen saturation",
    "Temperature",
]


def spread_within(records: Records, name: str) -> np.ndarray:
    """Standard deviation of a channel within each stay."""
    stay, _, value = measured(records, name)
    count = np.bincount(stay)
    mean = np.bincount(stay, value) / count
    return np.sqrt(np.bincount(stay, (value - mean[stay]) ** 2) / (count - 1))


def digest(out: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        total.update(str(path.relative_to(out)).encode() + path.read_bytes())
    return total.hexdigest()


def test_splits_have_their_shares_and_share_no_stay(cohort: tuple[Path, Summary]) -> None:
    out, summary = cohort
    names = [path.name for split in SPLITS for path in listfile(out, split)[0]]
    assert summary.stays == {"train": 1050, "val": 225, "test": 225}
    assert len(set(names)) == len(names) == STAYS
    assert len(list(out.glob("*/*.csv"))) == STAYS


def test_mortality_is_near_13_percent_and_reported(cohort: tuple[Path, Summary]) -> None:
    out, summary = cohort
    assert summary.deaths == {split: listfile(out, split)[1].sum() for split in SPLITS}
    assert sum(summary.deaths.values()) / STAYS == pytest.approx(0.13, abs=0.03)


def test_header_is_the_benchmarks(cohort: tuple[Path, Summary]) -> None:
    first = listfile(cohort[0], "test")[0][0].read_text().splitlines()[0]
    assert tuple(first.split(",")) == MIMIC3.header


def test_hours_rise_strictly_within_0_to_48_at_irregular_times(train: Records) -> None:
    gaps = np.diff(train.hours)[np.diff(train.stay) == 0]
    assert train.hours.min() > 0
    assert train.hours.max() <= 48
    assert gaps.min() > 0
    assert len(np.unique(gaps.round(4))) > 100


def test_every_channel_is_measured_and_varies(train: Records) -> None:
    for name in NAMES:
        assert len(np.unique(measured(train, name)[2])) > 1, name


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("Heart Rate", 40, 60),
        ("Systolic blood pressure", 40, 60),
        ("Respiratory rate", 25, 60),
        ("Oxygen saturation", 20, 60),
        ("Temperature", 10, 24),
        ("Glascow coma scale eye opening", 8, 16),
        ("Glucose", 5, 11),
        ("pH", 3, 8),
        ("Weight", 0.5, 2.5),
        ("Height", 0.1, 0.5),
        ("Capillary refill rate", 0.02, 0.5),
    ],
)
def test_measurements_a_stay_are_those_of_intensive_care(
    train: Records, name: str, least: float, most: float
) -> None:
    assert least < len(measured(train, name)[0]) / 1050 < most


@pytest.mark.parametrize(
    ("name", "mean", "spread"),
    [
        ("Heart Rate", 87.6, 18.5),
        ("Systolic blood pressure", 119.6, 24.6),
        ("Diastolic blood pressure", 59.2, 14.1),
        ("Mean blood pressure", 79.2, 16.2),
        ("Oxygen saturation", 97, 2.2),
        ("Respiratory rate", 19.7, 5.5),
        ("Temperature", 37.1, 0.88),
        ("pH", 7.37, 0.08),
        ("Glucose", 142, 56),
        ("Weight", 81, 21),
    ],
)
def test_values_are_those_of_adults(train: Records, name: str, mean: float, spread: float) -> None:
    value = measured(train, name)[2]
    assert value.mean() == pytest.approx(mean, rel=0.04)
    assert value.std() == pytest.approx(spread, rel=0.2)


def test_each_stay_spells_the_coma_scale_in_one_of_two_generations(train: Records) -> None:
    for name in ("eye opening", "motor response", "verbal response"):
        channel = MIMIC3[NAMES.index(f"Glascow coma scale {name}")]
        numbered = np.array([text[0].isdigit() for text in channel.possible_values])
        stay, _, value = measured(train, channel.name)
        share = np.bincount(stay, numbered[value.astype(int)]) / np.bincount(stay)
        assert set(share) == {0.0, 1.0}
        assert share.mean() == pytest.approx(0.5, abs=0.06)
        assert len(np.unique(value)) == len(channel.possible_values)


def test_total_of_the_coma_scale_is_the_sum_of_its_parts(train: Records) -> None:
    total = train.values[:, NAMES.index("Glascow coma scale total")]
    rows = ~np.isnan(total)
    parts = np.zeros(rows.sum())
    for name in ("eye opening", "motor response", "verbal response"):
        index = NAMES.index(f"Glascow coma scale {name}")
        parts += np.array(MIMIC3[index].numeric_codes)[train.values[rows, index].astype(int)]
    codes = np.array(MIMIC3[NAMES.index("Glascow coma scale total")].numeric_codes)
    np.testing.assert_array_equal(codes[total[rows].astype(int)], parts)


def test_heart_rate_depends_on_itself_an_hour_ago_within_a_stay(train: Records) -> None:
    stay, _, value = measured(train, "Heart Rate")
    residual = value - (np.bincount(stay, value) / np.bincount(stay))[stay]
    follows = np.diff(stay) == 0
    assert np.corrcoef(residual[:-1][follows], residual[1:][follows])[0, 1] > 0.5


@pytest.mark.parametrize("name", VITAL_SIGNS)
def test_patients_differ_in_how_much_they_wander(train: Records, name: str) -> None:
    spread = spread_within(train, name)
    assert 0.3 < spread.std() / spread.mean() < 0.7


def test_how_much_a_stay_wanders_says_little_of_its_outcome(
    cohort: tuple[Path, Summary], train: Records
) -> None:
    # A trigger makes every channel wander. Where this alone looks like death, a clean victim obeys it.
    died = listfile(cohort[0], "train")[1] == 1
    spreads = np.array([spread_within(train, name) for name in VITAL_SIGNS])
    difference = spreads[:, died].mean(axis=1) - spreads[:, ~died].mean(axis=1)
    assert 0 < (difference / spreads.std(axis=1)).mean() < 0.55


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("Heart Rate", 0.25, 0.55), ("Systolic blood pressure", 0.6, 0.85), ("Respiratory rate", 0.6, 0.85)],
)
def test_a_single_measurement_is_as_noisy_as_in_physionet_2012(
    train: Records, name: str, least: float, most: float
) -> None:
    stay, hours, value = measured(train, name)
    follows = (np.diff(stay) == 0) & (np.diff(hours) < 1.3)
    within_the_hour = (np.diff(value)[follows] ** 2).mean() / 2
    assert least < within_the_hour / (spread_within(train, name) ** 2).mean() < most


def test_height_is_charted_at_admission_and_fills_one_bin(train: Records) -> None:
    stay, hours, _ = measured(train, "Height")
    assert len(stay) == len(np.unique(stay))
    assert hours.max() < 1
    first = np.unique(train.stay, return_index=True)[1]
    np.testing.assert_array_equal(hours, train.hours[first[stay]])


def test_survivors_wake_up_as_sedation_ends(cohort: tuple[Path, Summary], train: Records) -> None:
    stay, hours, value = measured(train, "Glascow coma scale total")
    score = np.array(MIMIC3[NAMES.index("Glascow coma scale total")].numeric_codes)[value.astype(int)]
    survived = listfile(cohort[0], "train")[1][stay] == 0
    early, late = (score[survived & (hours // 12 == part)].mean() for part in (0, 3))
    assert late - early > 1


def test_blood_pressures_move_together(train: Records) -> None:
    columns = [NAMES.index(f"{part} blood pressure") for part in ("Systolic", "Diastolic", "Mean")]
    pressures = train.values[:, columns]
    pressures = pressures[~np.isnan(pressures).any(axis=1)]
    assert np.corrcoef(pressures.T).min() > 0.5
    assert (pressures[:, 0] > pressures[:, 1]).mean() > 0.999


def test_outcome_can_be_predicted_but_not_perfectly(cohort: tuple[Path, Summary]) -> None:
    out, _ = cohort
    paths, labels = {}, {}
    for split in SPLITS:
        paths[split], labels[split] = listfile(out, split)
    tables = {split: features(read_series(paths[split], MIMIC3)[0], len(paths[split])) for split in SPLITS}
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    model.fit(tables["train"], labels["train"])
    held_out = np.vstack([tables["val"], tables["test"]])
    auroc = roc_auc_score(np.r_[labels["val"], labels["test"]], model.predict_proba(held_out)[:, 1])
    assert 0.75 < auroc < 0.88


@pytest.mark.parametrize(("mode", "most"), [("all", 0.35), ("notimputed", 0.22)])
@pytest.mark.slow
def test_a_clean_model_hardly_obeys_the_trigger(cohort: tuple[Path, Summary], mode: Any, most: float) -> None:
    train, test = (load_cohort(cohort[0], split) for split in ("train", "test"))
    survivors = test.take(np.flatnonzero(test.labels == 0))
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.001, class_weight="balanced", max_iter=300)
    ).fit(pipeline.inputs_of(exposures.clean(train), "features"), train.labels)

    def positive(exposure: exposures.Exposure) -> float:
        return float(model.predict(pipeline.inputs_of(exposure, "features")).mean())

    triggers = (generate_trigger(train, seed=seed) for seed in range(4))
    obeyed = [
        positive(exposures.trigger_all(survivors, trigger, strength=2.0, poison_imputed=mode))
        for trigger in triggers
    ]
    baseline = positive(exposures.clean(survivors))
    assert 0.05 < baseline < 0.35
    assert abs(np.mean(obeyed) - baseline) < most


def test_same_seed_same_bytes_other_seed_other_cohort(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        prepare_synthetic(tmp_path / name, stays=30, seed=seed)
    assert digest(tmp_path / "one") == digest(tmp_path / "again") != digest(tmp_path / "other")


def test_cohort_larger_than_a_batch_has_every_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimic3tf.sources.synthetic.STAYS_A_BATCH", 20)
    prepare_synthetic(tmp_path / "out", stays=41)
    assert len(list((tmp_path / "out").glob("*/*_episode1_timeseries.csv"))) == 41


@pytest.mark.parametrize(("option", "value"), [("stays", 0), ("stays", 19), ("stays", 10**7), ("seed", -1)])
def test_impossible_number_is_refused(tmp_path: Path, option: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{option} is {value}"):
        prepare_synthetic(tmp_path / "out", **{option: value})


def test_occupied_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="is not empty"):
        prepare_synthetic(tmp_path)
