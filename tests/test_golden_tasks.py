"""Every file of results that the benchmarks' own code made of the four tasks is compared by some test."""

from __future__ import annotations

import filecmp
from fnmatch import fnmatch
from pathlib import Path

from golden_tasks import FIXTURES, SHARED, at_hand

TESTS = Path(__file__).parent
READ = "data/test_readers.py::test_samples_are_read_as_by_the_benchmarks"
GRIDS = "data/test_preprocessing.py::test_grids_of_any_length_are_the_benchmarks"
BATCHES = "data/test_batch_generators.py::test_the_first_batch_is_the_benchmarks"
LISTFILES = "sources/test_task_listfiles.py::test_the_listfiles_are_the_benchmarks"
DEMO = "sources/test_mimic3.py::test_every_task_of_the_demo_is_what_the_benchmarks_make_of_it"
SCORES = "tasks/test_metrics_multilabel.py::test_the_averages_and_areas_are_the_benchmarks"
COMPARED = {
    "README.md": "test_golden_tasks.py::test_every_file_is_compared_by_a_test",
    "batches/*.npz": BATCHES,
    "decompensation.npz": GRIDS,
    "discretizer_settings.npz": (
        "data/test_preprocessing.py::test_other_settings_of_the_discretizer_are_the_benchmarks"
    ),
    "evaluation/*": "cli/test_evaluate.py::test_the_result_is_that_of_the_benchmarks_script",
    "features_periods.npz": "data/test_features.py::test_features_of_every_period_are_the_benchmarks",
    "length_of_stay.npz": GRIDS,
    "listfiles/*": DEMO,
    "metrics/*": SCORES,
    "models/*": "victims/test_golden_networks.py::test_a_network_with_four_heads_is_the_benchmarks",
    "multitask.npz": "data/test_readers.py::test_multitask_is_read_as_by_the_benchmarks",
    "normalizers.json": "data/test_preprocessing.py::test_the_benchmarks_normalizers_of_all_tasks_are_read",
    "phenotyping.npz": GRIDS,
    "samples/*.csv": READ,
    "series.tar.xz": DEMO,
    "stays.csv": DEMO,
    "synthetic/batches/*.npz": BATCHES,
    "synthetic/data.tar.xz": READ,
    "synthetic/cases.csv": LISTFILES,
    "synthetic/decompensation.npz": GRIDS,
    "synthetic/length-of-stay.npz": GRIDS,
    "synthetic/listfiles/*": "sources/test_task_listfiles.py::test_the_archive_holds_all_listfiles",
    "synthetic/phenotyping.npz": GRIDS,
    "synthetic/root.tar.xz": LISTFILES,
    "synthetic/samples/*.csv": READ,
}
"""Files below golden-tasks -> a test that compares them; other tests compare some of their arrays, too."""


def test_every_file_is_compared_by_a_test() -> None:
    files = [file.relative_to(at_hand(SHARED)).as_posix() for file in SHARED.rglob("*") if file.is_file()]
    known = [*COMPARED]
    assert [file for file in files if not any(fnmatch(file, pattern) for pattern in known)] == []
    assert [pattern for pattern in known if not any(fnmatch(file, pattern) for file in files)] == []


def test_these_tests_exist() -> None:
    for test in COMPARED.values():
        file, name = test.split("::")
        assert f"def {name}(" in (TESTS / file).read_text(), test


def test_the_copies_are_those_of_the_benchmarks() -> None:
    for folder, original in ((FIXTURES, SHARED), (TESTS / "fixtures/evaluation", SHARED / "evaluation")):
        for file in folder.rglob("*"):
            if file.is_file() and file.name != "README.md":
                assert filecmp.cmp(file, at_hand(original) / file.relative_to(folder), shallow=False), file
