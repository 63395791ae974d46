import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mimic3tf.channels import MIMIC3
from mimic3tf.data.records import read_series
from mimic3tf.errors import DataError, UsageError
from mimic3tf.sources import physionet2012
from mimic3tf.sources.physionet2012 import PARAMETERS, prepare_physionet2012

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "physionet-2012"
DESCRIPTORS = (
    "00:00,RecordID,{0}\n00:00,Age,54\n00:00,Gender,0\n00:00,Height,-1\n00:00,ICUType,4\n00:00,Weight,-1\n"
)


def write_set(directory: Path, records: dict[str, str], deaths: dict[str, int]) -> tuple[Path, Path]:
    directory.mkdir()
    for record, lines in records.items():
        text = "Time,Parameter,Value\n" + DESCRIPTORS.format(record) + lines
        (directory / f"{record}.txt").write_text(text)
    outcome = directory.with_name(f"Outcomes-{directory.name}.txt")
    header = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n"
    outcome.write_text(header + "".join(f"{record},6,1,5,-1,{death}\n" for record, death in deaths.items()))
    return directory, outcome


def prepare_one(tmp_path: Path, lines: str, **options: Any) -> pl.DataFrame:
    """The series that one record's lines become; null where a cell is empty."""
    records, outcome = write_set(tmp_path / "set", {"7": lines}, {"7": 0})
    prepare_physionet2012([records], [outcome], tmp_path / "out", **options)
    return pl.read_csv(*(tmp_path / "out").glob("*/7_episode1_timeseries.csv"), infer_schema=False)


def fault_of(tmp_path: Path, lines: str, **options: bool) -> str:
    with pytest.raises(DataError) as caught:
        prepare_one(tmp_path, lines, **options)
    assert not (tmp_path / "out").exists()
    return str(caught.value).replace(str(tmp_path), "")


def many(tmp_path: Path, name: str, first: int, count: int) -> tuple[Path, Path]:
    ids = [str(first + index) for index in range(count)]
    return write_set(
        tmp_path / name,
        dict.fromkeys(ids, "00:30,HR,80\n"),
        {record: int(int(record) % 5 == 0) for record in ids},
    )


def listed(out: Path, split: str) -> list[str]:
    return [line.split("_")[0] for line in (out / f"{split}_listfile.csv").read_text().splitlines()[1:]]


def digest(out: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        total.update(str(path.relative_to(out)).encode() + path.read_bytes())
    return total.hexdigest()


def test_every_parameter_reaches_its_channel(tmp_path: Path) -> None:
    for index, (parameter, channel) in enumerate(PARAMETERS.items()):
        middle = sum(MIMIC3[MIMIC3.position(channel)].plausible_range) / 2
        case = tmp_path / str(index)
        case.mkdir()
        series = prepare_one(case, f"01:00,{parameter},{middle:g}\n")
        assert [name for name in MIMIC3.names if series[name][0] is not None] == [channel]
        assert float(series[channel][0]) == pytest.approx(middle)


def test_empty_lines_of_the_outcomes_are_passed_over(tmp_path: Path) -> None:
    records, outcome = many(tmp_path, "set", 1, 20)
    outcome.write_text(outcome.read_text().replace("\n", "\n \n") + "\n")
    assert sum(prepare_physionet2012([records], [outcome], tmp_path / "out").stays.values()) == 20


def test_what_was_left_out_is_counted_where_no_record_is_left(tmp_path: Path) -> None:
    fault = fault_of(tmp_path, "01:00,HR,-1\n02:00,GCS,99\n")
    assert "no record holds a usable measurement; values left out: 3 missing (-1), 1 Glascow" in fault


def test_the_directory_says_how_it_was_made(tmp_path: Path) -> None:
    records, outcome = many(tmp_path, "set", 1, 20)
    summary = prepare_physionet2012([records], [outcome], tmp_path / "out", seed=3, drop_implausible=True)
    made = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert (made["source"], made["options"]) == ("physionet2012", {"seed": 3, "drop_implausible": True})
    assert (made["stays"], made["dropped_values"]) == (summary.stays, summary.dropped_values)
    assert str(tmp_path) not in json.dumps(made)


def test_header_is_the_benchmarks(tmp_path: Path) -> None:
    assert tuple(prepare_one(tmp_path, "00:30,HR,80\n").columns) == MIMIC3.header


def test_hours_are_hours_and_minutes_rounded_to_six_decimals(tmp_path: Path) -> None:
    series = prepare_one(tmp_path, "00:00,HR,80\n01:20,HR,81\n47:59,HR,82\n48:00,HR,83\n")
    assert series["Hours"].to_list() == ["0.0", "1.333333", "47.983333", "48.0"]


def test_minus_one_is_missing(tmp_path: Path) -> None:
    series = prepare_one(tmp_path, "00:10,HR,-1\n00:20,HR,80\n00:20,Temp,-1\n")
    assert series["Heart Rate"].to_list() == ["80"]
    assert series["Temperature"].to_list() == [None]


def test_invasive_pressure_wins_at_the_same_instant_only(tmp_path: Path) -> None:
    series = prepare_one(
        tmp_path,
        "01:00,SysABP,120\n01:00,NISysABP,110\n01:00,NIDiasABP,50\n01:00,DiasABP,60\n01:00,MAP,81\n01:00,NIMAP,71\n"
        "02:00,NISysABP,111\n03:00,SysABP,-1\n03:00,NISysABP,112\n04:00,SysABP,0\n04:00,NISysABP,113\n",
        drop_implausible=True,
    )
    assert series["Systolic blood pressure"].to_list() == ["120", "111", "112", "113"]
    assert series["Diastolic blood pressure"][0] == "60"
    assert series["Mean blood pressure"][0] == "81"


def test_last_of_two_values_at_one_instant_wins(tmp_path: Path) -> None:
    series = prepare_one(tmp_path, "00:30,HR,80\n00:30,Temp,36.6\n00:30,HR,95\n")
    assert series.select("Heart Rate", "Temperature").rows() == [("95", "36.6")]


def test_coma_score_is_written_as_its_category(tmp_path: Path) -> None:
    lines = "".join(f"{hour:02}:00,GCS,{hour}\n" for hour in range(3, 15)) + "15:00,GCS,15.0\n"
    assert prepare_one(tmp_path, lines)["Glascow coma scale total"].to_list() == [
        str(n) for n in range(3, 16)
    ]


def test_numbers_keep_their_value(tmp_path: Path) -> None:
    series = prepare_one(tmp_path, "01:00,NIMAP,92.33\n02:00,NIMAP,72.67\n")
    assert series["Mean blood pressure"].to_list() == ["92.33", "72.67"]


def test_lines_out_of_order_are_sorted_by_time(tmp_path: Path) -> None:
    assert prepare_one(tmp_path, "05:00,HR,80\n01:00,HR,70\n")["Heart Rate"].to_list() == ["70", "80"]


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    assert prepare_one(tmp_path, "01:00,HR,70\r\n02:00,HR,80\r\n")["Heart Rate"].to_list() == ["70", "80"]


def test_implausible_values_are_dropped_and_counted(tmp_path: Path) -> None:
    bad = "01:00,pH,735\n01:00,Temp,-17.8\n01:00,SysABP,0\n02:00,SysABP,0\n01:00,Height,1.8\n01:00,HR,0\n"
    records, outcome = write_set(tmp_path / "set", {"7": bad + "01:00,Glucose,90\n"}, {"7": 0})
    summary = prepare_physionet2012([records], [outcome], tmp_path / "out", drop_implausible=True)
    assert summary.dropped_values == {
        "missing (-1)": 2,
        "Systolic blood pressure outside 25 to 300": 2,
        "pH outside 6.5 to 8": 1,
        "Temperature outside 25 to 44": 1,
        "Height outside 100 to 230": 1,
        "Heart Rate outside 15 to 300": 1,
    }


def test_implausible_values_stay_unless_asked_for(tmp_path: Path) -> None:
    series = prepare_one(tmp_path, "01:00,pH,735\n01:00,SysABP,0\n01:00,GCS,2\n")
    assert series.select("pH", "Systolic blood pressure").rows() == [("735", "0")]
    assert series["Glascow coma scale total"].to_list() == [None]


def test_values_that_lose_at_their_instant_are_counted(tmp_path: Path) -> None:
    records, outcome = write_set(tmp_path / "set", {"7": "00:30,MAP,80\n00:30,NIMAP,70\n"}, {"7": 0})
    summary = prepare_physionet2012([records], [outcome], tmp_path / "out")
    assert summary.dropped_values["another value of the channel at the same instant"] == 1


def test_record_without_usable_measurement_is_left_out_and_counted(tmp_path: Path) -> None:
    records, outcome = write_set(
        tmp_path / "set",
        {"3": "", "5": "00:30,Urine,80\n", "7": "00:30,HR,80\n", "9": "00:30,HR,90\n"},
        {"3": 0, "5": 1, "7": 1, "9": 0},
    )
    summary = prepare_physionet2012([records], [outcome], tmp_path / "out")
    assert summary.dropped_stays == {"no usable measurement": 2}
    assert sum(summary.stays.values()) == 2
    lists = "".join(path.read_text() for path in (tmp_path / "out").glob("*.csv"))
    assert "7_episode1_timeseries.csv,1" in lists
    assert "9_episode1_timeseries.csv,0" in lists
    assert "3_episode1" not in lists


def test_sets_are_pooled_and_dealt_70_15_15(tmp_path: Path) -> None:
    pairs = [many(tmp_path, "a", 100, 60), many(tmp_path, "b", 300, 40)]
    summary = prepare_physionet2012(
        [pair[0] for pair in pairs], [pair[1] for pair in pairs], tmp_path / "out"
    )
    assert summary.stays == {"train": 70, "val": 15, "test": 15}
    assert sum(summary.deaths.values()) == 20
    dealt = [record for split in summary.stays for record in listed(tmp_path / "out", split)]
    assert sorted(dealt) == [str(n) for n in (*range(100, 160), *range(300, 340))]
    assert len(list((tmp_path / "out/train").iterdir())) == 85


def test_test_set_of_its_own_is_the_test_split(tmp_path: Path) -> None:
    pool, outcome = many(tmp_path, "a", 100, 40)
    test, test_outcome = many(tmp_path, "b", 10, 7)
    summary = prepare_physionet2012(
        [pool], [outcome], tmp_path / "out", test_records=test, test_outcomes=test_outcome
    )
    assert summary.stays == {"train": 34, "val": 6, "test": 7}
    assert sorted(listed(tmp_path / "out", "test")) == [str(n) for n in range(10, 17)]


def test_same_seed_same_bytes_other_seed_other_split(tmp_path: Path) -> None:
    pool, outcome = many(tmp_path, "a", 100, 30)
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        prepare_physionet2012([pool], [outcome], tmp_path / name, seed=seed)
    assert digest(tmp_path / "one") == digest(tmp_path / "again")
    assert listed(tmp_path / "one", "train") != listed(tmp_path / "other", "train")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("1:05,HR,80\n", "/set/7.txt, line 8: time '1:05' is not HH:MM from 00:00 to 48:00"),
        ("00:30,HR,80\n00:61,HR,80\n", "/set/7.txt, line 9: time '00:61'"),
        ("48:01,HR,80\n", "/set/7.txt, line 8: time '48:01'"),
        (",HR,80\n", "/set/7.txt, line 8: time ''"),
        ("00:30,Urine,1\n00:30,HR,eighty\n", "/set/7.txt, line 9: HR is 'eighty', not a number"),
        ("00:30,HR,\n", "/set/7.txt, line 8: HR is '', not a number"),
        ("00:30,HR,nan\n", "/set/7.txt, line 8: HR is 'nan', not a number"),
        ("00:30,GCS,13.5\n", "/set/7.txt, line 8: GCS is '13.5', not a whole number"),
        ("00:30,HR\n", "/set/7.txt, line 8: '00:30,HR' is not 'Time,Parameter,Value'"),
        ("00:30,HR\n00:40,HR,80,1\n", "/set/7.txt, line 8: '00:30,HR' is not"),
        ("\n00:30,HR,80\n", "/set/7.txt, line 8: '' is not"),
        ("00:30,Urine,80\n", "/set: no record holds a usable measurement"),
    ],
)
def test_broken_line_is_named(tmp_path: Path, lines: str, message: str) -> None:
    assert fault_of(tmp_path, lines).startswith(message)


def test_broken_line_of_a_later_file_is_named(tmp_path: Path) -> None:
    pool, outcome = many(tmp_path, "a", 100, 20)
    with (pool / "113.txt").open("a") as file:
        file.write("00:40,Temp,warm\n")
    with pytest.raises(DataError, match="113.txt, line 9: Temp is 'warm'"):
        prepare_physionet2012([pool], [outcome], tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the header needs the columns 'RecordID' and 'In-hospital_death'"),
        ("RecordID,SAPS-I\n7,1\n", "line 1: the header needs"),
        ("RecordID,In-hospital_death\n7,1,2\n", "line 2: 3 cells where the header names 2"),
        ("RecordID,In-hospital_death\nseven,1\n", "line 2: RecordID 'seven' is not a whole number"),
        ("RecordID,In-hospital_death\n7,2\n", "line 2: In-hospital_death is '2'; expected 0 or 1"),
        ("RecordID,In-hospital_death\n7,1\n7,0\n", "line 3: record 7 is already on line 2"),
        ("RecordID,In-hospital_death\n7,1\n8,0\n", "line 3: record 8 has no file in"),
    ],
)
def test_broken_outcome_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    records, outcome = write_set(tmp_path / "set", {"7": "00:30,HR,80\n"}, {})
    outcome.write_text(text)
    with pytest.raises(DataError) as caught:
        prepare_physionet2012([records], [outcome], tmp_path / "out")
    assert str(caught.value).startswith(f"{outcome}, {message}")


def test_record_without_outcome_is_named(tmp_path: Path) -> None:
    records, outcome = write_set(tmp_path / "set", {"7": "", "8": ""}, {"7": 0})
    with pytest.raises(DataError, match=r"8\.txt: record 8 has no outcome in .*Outcomes-set\.txt"):
        prepare_physionet2012([records], [outcome], tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"Hours,HR\n0,80\n", ", line 1: the header is 'Hours,HR'; expected 'Time,Parameter,Value'"),
        (b"\x1f\x8b\xff\xfe", ": is not text in UTF-8"),
    ],
    ids=["header", "binary"],
)
def test_file_that_is_no_record_is_named(tmp_path: Path, content: bytes, fault: str) -> None:
    records, outcome = write_set(tmp_path / "set", {"7": ""}, {"7": 0})
    (records / "7.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"7\.txt{fault}"):
        prepare_physionet2012([records], [outcome], tmp_path / "out")


def test_set_given_twice_is_refused(tmp_path: Path) -> None:
    records, outcome = many(tmp_path, "a", 100, 3)
    with pytest.raises(DataError, match="record 100 is also .*100.txt; give each set once"):
        prepare_physionet2012([records, records], [outcome, outcome], tmp_path / "out")


def test_missing_paths_are_named(tmp_path: Path) -> None:
    records, outcome = many(tmp_path, "a", 100, 3)
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match="absent: no such directory"):
        prepare_physionet2012([tmp_path / "absent"], [outcome], tmp_path / "out")
    with pytest.raises(DataError, match="bare: holds no '<record id>.txt' file"):
        prepare_physionet2012([tmp_path / "bare"], [outcome], tmp_path / "out")
    with pytest.raises(DataError, match="absent.txt: cannot be read: No such file"):
        prepare_physionet2012([records], [tmp_path / "absent.txt"], tmp_path / "out")


def test_sets_that_do_not_pair_up_are_refused(tmp_path: Path) -> None:
    records, outcome = many(tmp_path, "a", 100, 3)
    with pytest.raises(UsageError, match="1 directories of records and 0 outcome files"):
        prepare_physionet2012([records], [], tmp_path / "out")
    with pytest.raises(UsageError, match="a test set needs both"):
        prepare_physionet2012([records], [outcome], tmp_path / "out", test_records=records)


def test_occupied_directory_is_refused_before_reading(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a file"):
        prepare_physionet2012([tmp_path / "absent"], [tmp_path / "absent.txt"], Path(__file__))


@pytest.mark.skipif(not REAL.is_dir(), reason="PhysioNet 2012 archives are not at ../shared/data")
def test_real_records_become_readable_series(tmp_path: Path) -> None:
    with tarfile.open(REAL / "set-a.tar.xz") as archive:
        picked = []
        for member in archive:
            if member.isfile() and Path(member.name).stem.isdigit():
                picked.append(Path(member.name).stem)
                (tmp_path / "set-a").mkdir(exist_ok=True)
                data = archive.extractfile(member)
                assert data is not None
                (tmp_path / "set-a" / Path(member.name).name).write_bytes(data.read())
            if len(picked) == 40:
                break
    rows = [f"{record},{index % 2}\n" for index, record in enumerate(picked)]
    (tmp_path / "Outcomes.txt").write_text("RecordID,In-hospital_death\n" + "".join(rows))
    summary = prepare_physionet2012([tmp_path / "set-a"], [tmp_path / "Outcomes.txt"], tmp_path / "out")
    paths = sorted((tmp_path / "out").glob("*/*.csv"))
    records, _ = read_series(paths, MIMIC3)
    assert len(paths) == sum(summary.stays.values()) >= 39
    assert records.hours.max() <= 48
    assert len(records.hours) / len(paths) > 40


def test_a_record_that_is_a_compressed_file_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressed file may be plain text: this is how zlib's begins."""
    monkeypatch.setattr(pl, "read_csv", lambda *_, **__: pytest.fail("was given to Polars"))
    with pytest.raises(DataError, match="not plain CSV text"):
        physionet2012._parse(["x^,HR,80\n"], [Path("set/7.txt")])
