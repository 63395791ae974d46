"""Listfiles of the hourly tasks, phenotyping and multitask: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from golden_tasks import SHARED, at_hand

from mimic3tf.data.listfiles import MULTITASK, read_hourly, read_multitask, read_phenotyping
from mimic3tf.errors import DataError
from mimic3tf.tasks.rules import REMAINING

HOURLY = "stay,period_length,y_true\na.csv,5.000000,0\na.csv,6.000000,1\nb.csv,5.000000,0\n"
LENGTHS = HOURLY.replace("5.000000,0\n", "5.000000,-0.000000\n", 1).replace(",1\n", ",12.5\n")
PHENOTYPES = "stay,period_length,Shock,Other; than (adult)\na.csv,60.500000,0,1\nb.csv,3.900000,1,0\n"
STAYS = ",".join(MULTITASK) + (
    "\na.csv,2.500000,0;0;1,0;0;0;2.5;1.5;0.5,1;0,0;0;1;0;0;1\nb.csv,48.000000,47;1;0,;,0;1,;\n"
)


def written(folder: Path, text: str) -> Path:
    file = folder / "listfile.csv"
    file.write_bytes(text.encode())
    return file


@pytest.mark.parametrize(
    "change", [("\n", "\r\n"), ("\n", "\r"), ("\n", "\n\n"), ("", ""), ("stay", "\ufeffstay")]
)
def test_line_ends_and_marks_of_any_system_are_read(change: tuple[str, str], tmp_path: Path) -> None:
    text = HOURLY.replace(*change, 1 if change[0] == "stay" else -1) if change[0] else HOURLY.rstrip("\n")
    listed = read_hourly(written(tmp_path, text))
    assert listed.stays.to_list() == ["a.csv", "a.csv", "b.csv"]
    assert listed.hours.tolist() == [5.0, 6.0, 5.0]
    assert listed.labels.tolist() == [[0.0], [1.0], [0.0]]


def test_remaining_hours_may_be_a_negative_zero(tmp_path: Path) -> None:
    listed = read_hourly(written(tmp_path, LENGTHS), REMAINING)
    assert listed.labels[:, 0].tolist() == [0.0, 12.5, 0.0]


def test_phenotypes_may_have_any_names(tmp_path: Path) -> None:
    assert read_phenotyping(written(tmp_path, PHENOTYPES)).labels.tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_multitask_lists_are_split_into_masks_and_labels(tmp_path: Path) -> None:
    listed, mortality, remaining, decompensation = read_multitask(written(tmp_path, STAYS))
    assert mortality.tolist() == [[0, 0, 1], [47, 1, 0]]
    assert listed.labels.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert [part.tolist() for part in remaining.of(0)] == [[0, 0, 0], [2.5, 1.5, 0.5]]
    assert [part.tolist() for part in decompensation.of(0)] == [[0, 0, 1], [0, 0, 1]]
    assert [part.tolist() for part in remaining.of(1)] == [[], []]


@pytest.mark.parametrize(
    ("text", "before", "after", "message"),
    [
        (HOURLY, "6.000000,1", "6.000000,2", "line 3: column 'y_true' holds '2'; labels are 0 or 1"),
        (HOURLY, "6.000000,1", "6.000000,", "line 3: column 'y_true' holds ''"),
        (
            HOURLY,
            "6.000000,1",
            "six,1",
            "line 3: column 'period_length' holds 'six'; hours are more than 0",
        ),
        (HOURLY, "6.000000,1", "0,1", "line 3: column 'period_length' holds '0'"),
        (HOURLY, "6.000000,1", "nan,1", "line 3: column 'period_length' holds 'nan'"),
        (HOURLY, "6.000000,1", "5.0,1", "line 3: stay 'a.csv' is listed twice at hour 5"),
        (HOURLY, "6.000000,1", "6.000000", "line 3: has 2 cells; the header has 3"),
        (HOURLY, "b.csv", "../b.csv", "line 4: column 'stay' holds '../b.csv'; that is no file name"),
        (HOURLY, "period_length", "hours", "line 1: the header must read 'stay,period_length,y_true'"),
        (HOURLY, HOURLY[25:], "\n", "lists no stays"),
        (PHENOTYPES, "60.500000,0,1", "60.500000,0,3", "line 2: column 'Other; than .adult.' holds '3'"),
        (PHENOTYPES, "b.csv", "a.csv", "line 3: stay 'a.csv' is listed twice$"),
        (PHENOTYPES, "Shock,", "Other; than (adult),", "line 1: the header must name every phenotype once"),
        (STAYS, "47;1;0", "47;1", "line 3: column 'in-hospital mortality task .* expected pos;mask;label"),
        (STAYS, "47;1;0", "47;x;0", "line 3: column 'in-hospital mortality task"),
        (STAYS, "0;1,;", "0;1;1,;", "line 3: column 'phenotyping task .* the first stay has 2 labels"),
        (
            STAYS,
            ";1.5;0.5",
            ";1.5",
            "line 2: column 'length of stay task .* expected as many labels as masks",
        ),
        (STAYS, "0;0;0;2.5", "0;0;2;2.5", "line 2: column 'length of stay task .* masks are 0 or 1"),
        (STAYS, "0;0;1;0;0;1", "0;0;1;0;0;7", "line 2: column 'decompensation task .* labels are 0 or 1"),
        (
            STAYS,
            "a.csv,2.5",
            "a.csv,1.5",
            "line 2: column 'length of stay task .* has more hours than the stay",
        ),
        (STAYS, "filename", "stay", "line 1: the header must read 'filename,length of stay,"),
    ],
)
def test_others_are_refused_by_file_and_line(
    text: str, before: str, after: str, message: str, tmp_path: Path
) -> None:
    assert text.count(before) == 1
    readers: dict[str, Any] = {HOURLY: read_hourly, PHENOTYPES: read_phenotyping, STAYS: read_multitask}
    file = written(tmp_path, text.replace(before, after))
    with pytest.raises(DataError, match=message) as caught:
        readers[text](file)
    assert str(file) in str(caught.value)


def test_every_listfile_of_the_benchmarks_is_read() -> None:
    readers: dict[str, Any] = {
        "decompensation": read_hourly,
        "length-of-stay": lambda file: read_hourly(file, REMAINING),
        "phenotyping": read_phenotyping,
        "multitask": lambda file: read_multitask(file)[0],
    }
    files = [
        file
        for root in (at_hand(SHARED / "listfiles"), SHARED / "synthetic/listfiles")
        for task in readers
        for file in sorted((root / task).glob("*_listfile.csv"))
    ]
    assert len(files) == 2 * 4 * 3
    for file in files:
        listed = readers[file.parent.name](file)
        lines = [line.split(",") for line in file.read_text().strip().split("\n")[1:]]
        assert listed.stays.to_list() == [line[0] for line in lines]
        assert listed.hours.tolist() == [float(line[1]) for line in lines]


def test_cells_are_hidden_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIMIC3TF_REDACT", "1")
    for before, after in (("6.000000", "Smith"), ("b.csv", "Smith/"), ("period", "Smith")):
        with pytest.raises(DataError) as caught:
            read_hourly(written(tmp_path, HOURLY.replace(before, after)))
        assert "Smith" not in str(caught.value)


def test_a_link_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "data"
    elsewhere.mkdir()
    folder.mkdir()
    (folder / "listfile.csv").symlink_to(written(elsewhere, HOURLY))
    with pytest.raises(DataError, match="give --follow-links"):
        read_hourly(folder / "listfile.csv")
    assert len(read_hourly(folder / "listfile.csv", follow_links=True).stays) == 3
