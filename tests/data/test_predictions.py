from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic3tf.data.predictions import FORMS, read_predictions, with_labels_of
from mimic3tf.errors import DataError

LISTED = "stay,y_true\na.csv,0\nb.csv,1\nc.csv,0\n"
GIVEN = "stay,prediction,y_true\nc.csv,0.75,0\na.csv,0,0\nb.csv,1.000000,1\n"


def written(folder: Path, text: str) -> Path:
    file = folder / "predictions.csv"
    file.write_bytes(text.encode())
    return file


@pytest.fixture
def listfile(tmp_path: Path) -> Path:
    (tmp_path / "listfile.csv").write_text(LISTED)
    return tmp_path / "listfile.csv"


@pytest.mark.parametrize(
    "text",
    [
        GIVEN,
        GIVEN.replace("\n", "\r\n"),
        "\ufeff" + GIVEN.rstrip("\n"),
        GIVEN.replace("\n", "\n\n"),
        GIVEN.replace(",1\n", ",1.0\n").replace("0.75", " 7.5e-1"),
        "y_true,note,prediction,stay\n0,x,0.75,c.csv\n0,,0,a.csv\n1,,1,b.csv\n",
        "stay,prediction\nc.csv,0.75\na.csv,0\nb.csv,1\n",
    ],
)
def test_predictions_are_matched_by_name(text: str, listfile: Path, tmp_path: Path) -> None:
    found = with_labels_of(read_predictions(written(tmp_path, text)), listfile)
    assert found.stays.tolist() == ["a.csv", "b.csv", "c.csv"]
    np.testing.assert_array_equal(found.probabilities, [0, 1, 0.75])
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 0]


def test_without_y_true_there_are_no_labels(tmp_path: Path) -> None:
    assert read_predictions(written(tmp_path, "stay,prediction\na,0.5\n")).labels is None


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("0.75", "nan", "line 2: column 'prediction' holds 'nan'; a prediction is a number from 0 to 1"),
        ("0.75", "inf", "line 2: column 'prediction' holds 'inf'"),
        ("0.75", "-0.01", "line 2: column 'prediction' holds '-0.01'"),
        ("1.000000", "1.000001", "line 4: column 'prediction' holds '1.000001'"),
        ("1.000000", "", "line 4: column 'prediction' holds ''"),
        ("0.75", "high", "line 2: column 'prediction' holds 'high'"),
        ("0.75,0", "0.75,2", "line 2: column 'y_true' holds '2'; labels are 0 or 1"),
        ("0.75,0", "0.75,nan", "line 2: column 'y_true' holds 'nan'"),
        ("0.75,0", "0.75", "line 2: has 2 cells; the header has 3"),
        ("0.75,0", "0.75,0,1", "line 2: has 4 cells; the header has 3"),
        ("a.csv", "c.csv", "line 3: stay 'c.csv' is listed twice"),
        ("prediction", "pred", "line 1: the header must name the column 'prediction' once"),
        ("stay,", "id,", "line 1: the header must name the column 'stay' once"),
        ("0.75,0", "0.75,1", "line 2: column 'y_true' of stay 'c.csv' holds 1, but .*listfile.csv has 0"),
        ("b.csv,1.000000,1\n", "", r"has no prediction of stay 'b.csv', which .*listfile.csv lists$"),
        ("a.csv,0,0\nb.csv,1.000000,1\n", "", r"has no prediction of stay 'a.csv', .* \(and 1 more\)"),
        ("y_true\n", "y_true\nd.csv,0.5,0\n", "line 2: stay 'd.csv' is not in .*listfile.csv"),
        ("c.csv,0.75,0\na.csv,0,0\nb.csv,1.000000,1\n", "", "holds no predictions"),
    ],
)
def test_other_predictions_are_refused_by_file_and_line(
    before: str, after: str, message: str, listfile: Path, tmp_path: Path
) -> None:
    assert GIVEN.count(before) == 1
    file = written(tmp_path, GIVEN.replace(before, after))
    with pytest.raises(DataError, match=message) as caught:
        with_labels_of(read_predictions(file), listfile)
    assert str(file) in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "predictions.csv"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as text"):
        read_predictions(file)


def test_names_and_cells_are_hidden_on_demand(
    listfile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIMIC3TF_REDACT", "1")
    for before, after in (("0.75", "Smith"), ("a.csv", "Smith"), ("a.csv", "c.csv"), ("stay,", "Smith,")):
        with pytest.raises(DataError) as caught:
            with_labels_of(read_predictions(written(tmp_path, GIVEN.replace(before, after))), listfile)
        assert "Smith" not in str(caught.value)
        assert "c.csv" not in str(caught.value)


FILES = {
    "decompensation": (
        "stay,period_length,y_true\na.csv,5.000000,0\na.csv,6.000000,1\nb.csv,5.000000,0\n",
        "stay,period_length,prediction,y_true\nb.csv,5,0.25,0\na.csv,6.0,0.75,1\na.csv,5.000000,0.5,0\n",
        [0.5, 0.75, 0.25],
    ),
    "length-of-stay": (
        "stay,period_length,y_true\na.csv,5.000000,30.1\na.csv,6.000000,-0.000000\n",
        "stay,period_length,prediction,y_true\na.csv,6.000000,-3.5,0.0\na.csv,5.000000,900.25,30.100000\n",
        [900.25, -3.5],
    ),
    "phenotyping": (
        "stay,period_length,Shock,Other\na.csv,60.5,0,1\nb.csv,3.9,1,0\n",
        "stay,period_length,pred_1,pred_2,label_1,label_2\nb.csv,3.9,0.1,0.2,1,0\na.csv,60.5,0.3,0.4,0,1\n",
        [[0.3, 0.4], [0.1, 0.2]],
    ),
}


def _read(task: str, listed: str, given: str, folder: Path) -> Any:
    (folder / "listfile.csv").write_text(listed)
    return with_labels_of(
        read_predictions(written(folder, given), FORMS[task]), folder / "listfile.csv", task
    )


@pytest.mark.parametrize("task", list(FILES))
def test_predictions_of_every_task_are_matched_by_stay_and_hour(task: str, tmp_path: Path) -> None:
    listed, given, expected = FILES[task]
    found = _read(task, listed, given, tmp_path)
    np.testing.assert_array_equal(found.probabilities, expected)
    labels = 2 if task == "phenotyping" else 1
    without = "\n".join(",".join(line.split(",")[:-labels]) for line in given.strip().split("\n"))
    again = _read(task, listed, without, tmp_path)
    np.testing.assert_array_equal(again.labels, found.labels)
    assert found.labels is not None
    assert found.labels.shape == found.probabilities.shape


@pytest.mark.parametrize(
    ("task", "before", "after", "message"),
    [
        ("decompensation", "b.csv,5,0.25,0\n", "", r"has no prediction of stay 'b.csv' at hour 5, which"),
        ("decompensation", "b.csv,5,", "b.csv,7,", r"has no prediction of stay 'b.csv' at hour 5, which"),
        ("decompensation", "y_true\n", "y_true\nc.csv,5,0.5,0\n", "line 2: stay 'c.csv' at hour 5 is not in"),
        ("decompensation", "a.csv,6.0,", "a.csv,5.0,", "line 4: stay 'a.csv' is listed twice at hour 5"),
        (
            "decompensation",
            "0.75,1",
            "0.75,0",
            "line 3: column 'y_true' of stay 'a.csv' at hour 6 holds 0, but",
        ),
        (
            "decompensation",
            "0.75",
            "1.75",
            "line 3: column 'prediction' holds '1.75'; a prediction is a number",
        ),
        ("decompensation", "period_length", "hour", "must name the column 'period_length' once"),
        ("length-of-stay", "900.25", "long", "line 3: column 'prediction' holds 'long'; a prediction is a"),
        ("length-of-stay", "30.100000", "30.2", "holds 30.2, but .*listfile.csv has 30.1$"),
        (
            "length-of-stay",
            "-3.5,0.0",
            "-3.5,-1",
            "line 2: column 'y_true' holds '-1'; remaining hours are a",
        ),
        ("phenotyping", "pred_2", "pred_3", "line 1: the columns 'pred_...' must be numbered 1 to 2"),
        ("phenotyping", "label_2", "other", "line 1: names 2 columns of predictions, 1 of labels"),
        ("phenotyping", "0.2,1,0", "0.2,1,1", "line 2: column 'label_2' of stay 'b.csv' holds 1, but"),
        ("phenotyping", "0.2,1,0", "2,1,0", "line 2: column 'pred_2' holds '2'; a prediction is a number"),
    ],
)
def test_mistakes_in_predictions_of_every_task_are_named(
    task: str, before: str, after: str, message: str, tmp_path: Path
) -> None:
    listed, given, _ = FILES[task]
    assert given.count(before) == 1
    with pytest.raises(DataError, match=message):
        _read(task, listed, given.replace(before, after), tmp_path)


def test_another_number_of_labels_is_refused(tmp_path: Path) -> None:
    listed, given, _ = FILES["phenotyping"]
    listed = listed.replace(",Other", "").replace("0,1\n", "0\n").replace("1,0\n", "1\n")
    with pytest.raises(DataError, match=r"has 2 predictions a stay; .*listfile.csv has 1 labels"):
        _read("phenotyping", listed, given, tmp_path)
