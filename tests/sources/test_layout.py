import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mimic3tf.channels import MIMIC3, Channel, ChannelSet
from mimic3tf.data.channels_file import CHANNELS_FILE, read_channels
from mimic3tf.data.directory import SPLITS, Split
from mimic3tf.data.loading import load_cohort
from mimic3tf.errors import DataError, UsageError
from mimic3tf.sources import layout
from mimic3tf.tasks.registry import task_of

NAMES = list(MIMIC3.names)
HEART, PH, GCS = (NAMES.index(name) for name in ("Heart Rate", "pH", "Glascow coma scale total"))


def small_cohort() -> layout.PreparedCohort:
    total = MIMIC3[GCS].category_index("15")
    assert total is not None
    rows = layout.rows_from_cells(
        stay=[2, 0, 0, 1, 0], minute=[90, 61, 0, 2880, 61], channel=[HEART, PH, HEART, GCS, HEART],
        value=[70, 7.35, 80.0, total, 0.1 + 0.2],
    )  # fmt: skip
    splits = {"train": np.array([2]), "val": np.array([0]), "test": np.array([1])}
    return layout.PreparedCohort(["a.csv", "b.csv", "c.csv"], np.array([1, 0, 1]), splits, rows)


def text_of(path: Path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text().splitlines()]


def test_series_read_back_as_given(tmp_path: Path) -> None:
    layout.write_benchmark_directory(tmp_path / "out", small_cohort())
    header, first, second = text_of(tmp_path / "out/train/a.csv")
    assert tuple(header) == MIMIC3.header
    assert first[0] == "0.0"
    assert second[0] == "1.016667"
    assert [float(second[1 + index]) for index in (PH, HEART)] == [7.35, 0.1 + 0.2]
    assert [cell for cell in first[1:] if cell] == ["80.0"]
    assert text_of(tmp_path / "out/test/b.csv")[1][1 + GCS] == "15"
    assert text_of(tmp_path / "out/train/c.csv")[1][1 + HEART] == "70.0"


def test_a_series_that_no_command_could_read_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "LARGEST_SERIES", 300)
    with pytest.raises(DataError, match="its rows take .* and a series has 300 at most; .* once a minute"):
        layout.write_benchmark_directory(tmp_path / "out", small_cohort())
    assert not (tmp_path / "out").exists()


def test_large_cohort_read_back_as_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    stay = np.r_[np.arange(60), rng.integers(0, 60, 2000)]
    rows = layout.rows_from_cells(
        stay, rng.integers(0, 2881, 2060), rng.choice([HEART, PH], 2060), rng.normal(7, 1, 2060)
    )
    names = [f"{index}.csv" for index in range(60)]
    cohort = layout.PreparedCohort(names, rng.integers(0, 2, 60), layout.random_split(60, 0), rows)
    layout.write_benchmark_directory(tmp_path / "out", cohort)
    for index, name in enumerate(names):
        folder = "test" if index in cohort.splits["test"] else "train"
        schema = {column: rows.schema[column] for column in MIMIC3.header}
        written = pl.read_csv(tmp_path / "out" / folder / name, schema=schema)
        assert written.equals(rows.filter(stay=index).drop("stay"))


def test_listfiles_follow_the_order_of_the_splits(tmp_path: Path) -> None:
    layout.write_benchmark_directory(tmp_path / "out", small_cohort())
    texts = {split: (tmp_path / f"out/{split}_listfile.csv").read_text() for split in SPLITS}
    assert texts == {
        "train": "stay,y_true\nc.csv,1\n",
        "val": "stay,y_true\na.csv,1\n",
        "test": "stay,y_true\nb.csv,0\n",
    }


def test_last_value_of_an_instant_stays() -> None:
    rows = layout.rows_from_cells([0, 0, 0], [5, 5, 5], [HEART, PH, HEART], [80, 7.4, 90])
    assert rows.select("Heart Rate", "pH").rows() == [(90.0, 7.4)]


def test_rows_are_sorted_by_stay_and_time() -> None:
    rows = layout.rows_from_cells([1, 0, 1, 0], [3, 9, 1, 2], [HEART] * 4, [1, 2, 3, 4])
    assert rows["stay"].to_list() == [0, 0, 1, 1]
    assert rows["Heart Rate"].to_list() == [4, 2, 3, 1]


def test_channel_of_whole_numbers_is_written_without_decimals(tmp_path: Path) -> None:
    rows = layout.rows_from_cells([0, 0], [0, 1], [HEART, PH], [80, 7.4])
    splits = {"train": np.array([0]), "val": np.array([], int), "test": np.array([], int)}
    cohort = layout.PreparedCohort(["a.csv"], np.array([0]), splits, rows)
    layout.write_benchmark_directory(tmp_path / "out", cohort)
    assert text_of(tmp_path / "out/train/a.csv")[1][1 + HEART] == "80"


def test_random_split_deals_every_stay_once_in_the_given_shares() -> None:
    splits = layout.random_split(1000, seed=1)
    assert {name: len(stays) for name, stays in splits.items()} == {"train": 700, "val": 150, "test": 150}
    assert sorted(np.concatenate(list(splits.values()))) == list(range(1000))


def test_random_split_depends_on_the_seed_only() -> None:
    first, again, other = (layout.random_split(50, seed)["train"].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_order_of_the_training_list_is_random() -> None:
    train = layout.random_split(1000, seed=0)["train"]
    assert abs(np.corrcoef(np.arange(700), train)[0, 1]) < 0.15


def test_negative_seed_is_refused() -> None:
    with pytest.raises(UsageError, match="seed is -1"):
        layout.random_split(10, -1)


def test_existing_cohort_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="is not empty"):
        layout.write_benchmark_directory(tmp_path, small_cohort())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        layout.write_benchmark_directory(tmp_path / "out", small_cohort())


def test_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    layout.write_benchmark_directory(tmp_path / "out", small_cohort())
    assert (tmp_path / "out/test/b.csv").exists()


def test_missing_parents_are_made(tmp_path: Path) -> None:
    layout.write_benchmark_directory(tmp_path / "new/er/out", small_cohort())
    assert (tmp_path / "new/er/out/train_listfile.csv").exists()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_interrupted_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: BaseException
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise interruption

    monkeypatch.setattr(Path, "open", interrupt)
    with pytest.raises((KeyboardInterrupt, UsageError)):
        layout.write_benchmark_directory(tmp_path / "out", small_cohort())
    assert list(tmp_path.iterdir()) == []


def test_stay_without_rows_is_a_programming_error(tmp_path: Path) -> None:
    cohort = small_cohort()
    rows = cohort.rows.filter(pl.col("stay") != 1)
    with pytest.raises(ValueError, match="at least one row"):
        layout.write_benchmark_directory(
            tmp_path / "out", layout.PreparedCohort(cohort.stays, cohort.labels, cohort.splits, rows)
        )


def test_summary_counts_stays_and_deaths_and_leaves_out_what_did_not_happen(tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = layout.write_cohort(out, small_cohort(), "mine", {"seed": 3}, {"empty": 0}, {"odd": 2, "no": 0})
    assert summary.stays == {"train": 1, "val": 1, "test": 1}
    assert summary.deaths == {"train": 1, "val": 1, "test": 0}
    assert summary.dropped_stays == {}
    assert summary.dropped_values == {"odd": 2}
    made = json.loads((out / "prepared.json").read_text())
    assert (made["source"], made["options"], made["dropped_values"]) == ("mine", {"seed": 3}, {"odd": 2})
    written = json.loads((out / "summary.json").read_text())
    assert {name: written[name] for name in summary.counts} == summary.counts


def test_summary_tells_the_values_of_each_channel(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    stay = random.integers(0, 40, 900)
    stay[:40] = np.arange(40)
    minute, channel = random.integers(0, 2880, 900), random.choice([HEART, PH, GCS], 900)
    value = np.where(channel == GCS, random.integers(0, 3, 900), random.normal(80, 30, 900))
    rows = layout.rows_from_cells(stay, minute, channel, value)
    names = [f"secret{index}.csv" for index in range(40)]
    cohort = layout.PreparedCohort(names, np.zeros(40, np.int64), layout.random_split(40, 0), rows.lazy())
    summary = layout.write_cohort(tmp_path / "out", cohort, "mine", {}, {}, {})

    text = (tmp_path / "out" / "summary.json").read_text()
    assert "secret" not in text
    found = {entry["channel"]: entry for entry in json.loads(text)["channels"]}
    assert list(found) == NAMES == [described.channel.name for described in summary.channels]
    for name in ("Heart Rate", "pH"):
        cells = rows.drop_nulls(name)
        numbers = cells[name].to_numpy()
        low, high = MIMIC3[NAMES.index(name)].plausible_range
        expected = dict(
            zip(
                ("p1", "p25", "median", "p75", "p99"),
                np.percentile(numbers, (1, 25, 50, 75, 99)),
                strict=True,
            )
        )
        assert {quantile: found[name][quantile] for quantile in expected} == pytest.approx(expected, rel=1e-5)
        assert found[name]["values"] == len(numbers)
        assert found[name]["share_of_stays"] == pytest.approx(len(set(cells["stay"])) / 40, abs=1e-4)
        assert found[name]["outside_plausible_range"] == ((numbers < low) | (numbers > high)).sum()
    totals = Counter(rows[NAMES[GCS]].drop_nulls())
    assert found[NAMES[GCS]]["categories"] == dict(totals)
    assert next(iter(found[NAMES[GCS]]["categories"])) == totals.most_common(1)[0][0]
    assert (found["Weight"]["values"], found["Weight"]["median"]) == (0, None)


def test_a_picture_shows_any_channels(tmp_path: Path) -> None:
    odd = (Channel("a$b$ \u9ad8", "", "1"), Channel("Side", "", "left", ("left", "right"), (0, 1)))
    channels = ChannelSet("odd", (*odd, *(Channel(f"Number {n}", "kg", "1") for n in range(130))))
    rows = layout.rows_from_cells([0, 0, 0], [0, 1, 2], [0, 1, 2], [2.5, 1, 7], channels=channels)
    splits = {"train": np.array([0]), "val": np.array([], int), "test": np.array([], int)}
    cohort = layout.PreparedCohort(["a.csv"], np.array([0]), splits, rows, channels)
    layout.write_cohort(tmp_path / "out", cohort, "mine", {}, {}, {})
    assert (tmp_path / "out" / "channels.png").read_bytes().startswith(b"\x89PNG")


def test_a_directory_with_a_summary_is_loaded_like_one_without(tmp_path: Path) -> None:
    layout.write_benchmark_directory(tmp_path / "bare", small_cohort())
    layout.write_cohort(tmp_path / "told", small_cohort(), "mine", {}, {}, {})
    bare, told = (load_cohort(tmp_path / name, "train") for name in ("bare", "told"))
    assert bare.fingerprint == told.fingerprint
    np.testing.assert_array_equal(bare.grids, told.grids)


def test_other_channels_are_written_beside_their_stays_and_the_benchmarks_are_not(tmp_path: Path) -> None:
    monitor = ChannelSet(
        "monitor",
        (Channel("Lactate", "mmol/L", "1.0"), Channel("Side", "", "left", ("left", "right"), (0, 1))),
    )
    rows = layout.rows_from_cells([0, 0], [30, 60], [0, 1], [2.25, 1], channels=monitor)
    splits = {"train": np.array([0]), "val": np.array([], int), "test": np.array([], int)}
    cohort = layout.PreparedCohort(["a.csv"], np.array([0]), splits, rows, monitor)
    layout.write_benchmark_directory(tmp_path / "out", cohort)
    assert text_of(tmp_path / "out/train/a.csv") == [
        ["Hours", "Lactate", "Side"],
        ["0.5", "2.25", ""],
        ["1.0", "", "right"],
    ]
    assert read_channels(tmp_path / "out") == monitor
    layout.write_benchmark_directory(tmp_path / "benchmark", small_cohort())
    assert not (tmp_path / "benchmark" / CHANNELS_FILE).exists()


def test_a_split_without_a_label_is_told_with_the_next_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout.write_cohort(tmp_path / "out", small_cohort(), "mine", {}, {}, {})
    told = " ".join(capsys.readouterr().err.split())
    assert f"{tmp_path}/out/val_listfile.csv: no stay has label 0; move the lines" in told
    assert "from train_listfile.csv to val_listfile.csv, all stays of a patient together" in told
    assert f"{tmp_path}/out/test_listfile.csv: no stay has label 1" in told
    assert "from train_listfile.csv to test_listfile.csv, and their files from train/ to test/" in told
    assert "from val_listfile.csv to train_listfile.csv, all stays" in told


def test_an_empty_split_and_labels_that_never_differ_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = small_cohort()
    labels = {"one": np.array([0, 1]), "two": np.array([0, 0]), "three": np.array([1, 1])}
    rows = pl.DataFrame({"stay": ["a.csv", "b.csv"], "period_length": [1.0, 2.0]})
    samples: dict[Split, list[layout.Samples]] = {
        "train": [layout.Samples(rows, labels)],
        "val": [],
        "test": [layout.Samples(rows, {name: np.array([0, 1]) for name in labels})],
    }
    whole = replace(cohort, task=task_of("phenotyping"), samples=samples)
    summary = layout.write_cohort(tmp_path / "out", whole, "mine", {}, {}, {})
    told = " ".join(capsys.readouterr().err.split())
    assert "train_listfile.csv: 2 of 3 labels are the same everywhere: two (all 0), three (all 1);" in told
    assert "val_listfile.csv: lists no stay; move" in told
    assert "test_listfile.csv:" not in told
    assert summary.samples == {"train": 2, "val": 0, "test": 2}
    assert summary.positives["three"] == {"train": 2, "val": 0, "test": 1}


def test_nothing_is_told_of_splits_with_both_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = layout.rows_from_cells(np.arange(60), np.arange(60), [HEART] * 60, [80] * 60)
    names = [f"{stay}.csv" for stay in range(60)]
    cohort = layout.PreparedCohort(names, np.arange(60) % 2, layout.random_split(60, 0), rows)
    layout.write_cohort(tmp_path / "out", cohort, "mine", {}, {}, {})
    assert "label" not in capsys.readouterr().err
