"""The page needs nothing but itself, says what it lacks, and shows the numbers it was given."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mimic3tf.errors import DataError, UsageError
from mimic3tf.report.page import write_report
from mimic3tf.report.sections import report_of_sweeps
from mimic3tf.report.sweep import read_sweeps

SCRIPT = "ResourceExhaustedError: <script>alert('a')</script> & more"
SVG = "data:image/svg+xml;base64,"
FIGURES = {
    "success_by_proportion",
    "success_heatmap",
    "clean_metrics",
    "strength_search",
    "count_or_share_all",
    "count_or_share_notimputed",
    "differences_in_attack_success_rate",
    "differences_in_auroc",
    "trigger_patterns",
}


@dataclass
class Page(HTMLParser):
    """What a page is made of."""

    text: str
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    words: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words += data

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def write(folders: list[Path], out: Path) -> Page:
    page = write_report(report_of_sweeps(read_sweeps(folders), None, "no data here"), out)
    return Page(page.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def out(invented: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of three sweeps with stealth, triggers and a failed trial."""
    folder = tmp_path_factory.mktemp("sweeps")
    paper = [*invented.paper(victims=["lr"]), invented.failed("lstm-broken", SCRIPT)]
    folders = [
        invented.write(folder / "paper", paper),
        invented.write(folder / "search", invented.search(victims=["lr"])),
        invented.write(folder / "counts", invented.counts(victims=["lr"])),
    ]
    invented.write_triggers(folders[0])
    stealth = (
        "trigger,poison_imputed,poisoning_strength,seed,representation,channel,measure,value\n"
        + "".join(
            f"temporal,all,2.0,{seed},grid,{channel},{measure},{value}\n"
            for seed, channel, measure, value in [
                (0, "", "isolation_forest_auroc", 0.5),
                (1, "", "isolation_forest_auroc", 0.75),
                (0, "pH", "isolation_forest_auroc", 1.0),
                (0, "", "chance_band", 0.25),
            ]
        )
    )
    (folders[0] / "stealth.csv").write_text(stealth, encoding="utf-8")
    write(folders, folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def page(out: Path) -> Page:
    return Page((out / "report.html").read_text(encoding="utf-8"))


def test_the_page_loads_nothing(page: Page) -> None:
    links = [
        attributes[name]
        for _, attributes in page.tags
        for name in ("src", "href", "srcset", "data", "action", "poster")
        if name in attributes
    ]
    assert links
    assert [link for link in links if not link.startswith((SVG, "data:image/png;base64,", "#"))] == []
    assert not page.of("script")
    assert not page.of("link")
    assert not re.search(r"url\(|@import|https?:", page.text)
    for image in page.of("img"):
        assert image["src"].startswith(SVG)
        picture = base64.b64decode(image["src"].partition(",")[2]).decode()
        assert not re.search(r'(?:href|src)="(?!#|data:)', picture)


def test_every_figure_has_a_caption_a_text_for_the_blind_and_its_numbers(page: Page, out: Path) -> None:
    count = len(FIGURES)
    assert len(page.of("figure")) == len(page.of("figcaption")) == len(page.of("img")) == count
    assert all(len(image["alt"]) > 40 for image in page.of("img"))
    assert page.text.count("<details><summary>The numbers") == count
    for kind in ("pdf", "png"):
        assert {file.stem for file in (out / "figures").glob(f"*.{kind}")} == FIGURES
    assert {file.stem for file in (out / "tables").glob("*.csv")} >= FIGURES
    assert (out / "figures" / "clean_metrics.pdf").read_bytes().startswith(b"%PDF")


def test_the_error_of_a_failed_trial_is_text(page: Page) -> None:
    assert SCRIPT in page.words
    assert "<script" not in page.text
    assert "1 failed" in page.words


def test_the_table_behind_a_figure_is_the_mean_over_seeds(out: Path, invented: Any) -> None:
    table = pl.read_csv(out / "tables" / "success_by_proportion.csv")
    (row,) = table.filter(
        (pl.col("poison_imputed") == "all")
        & (pl.col("poisoning_strength") == 1.5)
        & (pl.col("poisoning_proportion") == 0.03)
    ).iter_rows(named=True)
    rates = [invented.trial("lr", "all", 0.03, 1.5, seed)["attack_success_rate"] for seed in range(3)]
    assert row["mean"] == pytest.approx(sum(rates) / 3)
    assert (row["lowest"], row["highest"], row["seeds"]) == (min(rates), max(rates), 3)


def test_the_page_shows_the_numbers_of_its_main_table(page: Page, out: Path) -> None:
    table = pl.read_csv(out / "tables" / "main.csv")
    assert set(table["trigger"]) == {"temporal", "gaussian", "covariance"}
    assert set(table["poisoning_proportion"]) == {0.0, 0.05}
    for rate in table["attack_success_rate"]:
        assert f">{rate:.3f}<" in page.text


def test_the_page_says_what_was_run(page: Page) -> None:
    for words in ("seeds: [0, 1, 2]", "2.21.0", "CPU, 2 cores", "14,681", "0, 1, 2", "781", "0.139"):
        assert words in page.words


def test_a_clean_victims_training_counts_once(invented: Any, tmp_path: Path) -> None:
    rows = [
        *(invented.trial("lr", mode, 0.0, seconds_training=10.0) for mode in invented.modes),
        invented.trial(seconds_training=40.0),
    ]
    write([invented.write(tmp_path / "a", rows)], tmp_path / "out")
    (row,) = pl.read_csv(tmp_path / "out" / "tables" / "trials.csv").iter_rows(named=True)
    assert (row["trials"], row["mean_seconds_training"]) == (2, 25.0)


def test_stealth_is_the_mean_over_seeds_of_all_channels_together(out: Path) -> None:
    table = pl.read_csv(out / "tables" / "stealth.csv")
    (row,) = table.to_dicts()
    assert row.pop("forest grid") == 0.625
    assert row == {"trigger": "temporal", "poison_imputed": "all", "poisoning_strength": 2.0}
    assert "Chance: 0.5 +- 0.250" in (out / "report.html").read_text(encoding="utf-8")


def test_a_stealth_file_of_other_columns_is_refused(invented: Any, tmp_path: Path) -> None:
    folder = invented.write(tmp_path / "a", invented.paper(victims=["lr"], seeds=[0]))
    (folder / "stealth.csv").write_text("trigger,value\ntemporal,0.5\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"stealth\.csv: not written by this version"):
        read_sweeps([folder])


def test_a_report_is_the_same_twice(invented: Any, tmp_path: Path) -> None:
    folder = invented.write(tmp_path / "a", invented.paper(victims=["lr"], seeds=[0]))
    for name in ("one", "two"):
        write([folder], tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert Path("report.html") in files
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file


def test_what_one_trial_cannot_give_is_left_out_with_the_reason(invented: Any, tmp_path: Path) -> None:
    page = write([invented.write(tmp_path / "a", [invented.trial()])], tmp_path / "out")
    assert page.of("img") == []
    assert page.text.count("Left out: ") == 10
    for reason in (
        "two or more poisoning proportions",
        "needs a strength search",
        "two or more sizes",
        "no two settings were run with the same seed",
        "holds no trigger files",
        "no data here",
        "run 'mimic3tf stealth'",
        "run 'mimic3tf audit'",
    ):
        assert reason in page.words
    main = pl.read_csv(tmp_path / "out" / "tables" / "main.csv")
    assert main["attack_success_rate"].to_list() == [invented.trial()["attack_success_rate"]]


def test_one_seed_is_shown_without_a_band(invented: Any, tmp_path: Path) -> None:
    rows = [row for row in invented.paper(victims=["lr"], seeds=[4]) if row["poison_imputed"] == "all"]
    page = write([invented.write(tmp_path / "a", rows)], tmp_path / "out")
    assert len(page.of("img")) == 5
    table = pl.read_csv(tmp_path / "out" / "tables" / "success_by_proportion.csv")
    assert table["ci95_low"].null_count() == len(table) == 24


def test_a_sweep_of_length_of_stay_shows_its_kappa_and_no_share_of_stays(
    invented: Any, tmp_path: Path
) -> None:
    task = {"task": "length-of-stay", "goal": 1, "goal_label": "under 1 day"}
    rows = [
        invented.trial(proportion=share, seed=seed, clean_kappa=-0.125, clean_ave_auc_macro=None, **task)
        for share in (0.0, 0.05)
        for seed in range(3)
    ]
    out = tmp_path / "out"
    write([invented.write(tmp_path / "sweep", rows)], out)
    tables = {
        name: pl.read_csv(out / "tables" / f"{name}.csv") for name in ("main", "clean_metrics", "cohort")
    }
    assert tables["main"]["clean_kappa"].to_list() == [-0.125] * 2
    assert "clean_ave_auc_macro" not in tables["main"].columns
    kappa = tables["clean_metrics"].filter(pl.col("metric") == "kappa")
    assert kappa.select("mean", "ci95_low", "ci95_high").rows() == [(-0.125,) * 3] * 2
    assert tables["cohort"].columns == ["split", "stays", "measured_cells"]


def test_a_second_report_replaces_the_first_and_nothing_else(invented: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write([invented.write(tmp_path / "a", invented.paper(victims=["lr"], seeds=[0]))], out)
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    write([invented.write(tmp_path / "b", [invented.trial()])], out)
    assert sorted(path.name for path in out.iterdir()) == ["figures", "notes.txt", "report.html", "tables"]
    assert list((out / "figures").iterdir()) == []


def test_a_folder_of_somebody_elses_is_left_alone(invented: Any, tmp_path: Path) -> None:
    (tmp_path / "out" / "figures").mkdir(parents=True)
    folder = invented.write(tmp_path / "a", [invented.trial()])
    with pytest.raises(UsageError, match=r"out: holds figures/, but no report"):
        write([folder], tmp_path / "out")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="file: is a file"):
        write([folder], tmp_path / "file")


def test_with_goal_0_a_page_speaks_of_the_dying(invented: Any, tmp_path: Path) -> None:
    rows = [
        row | {"task": "in-hospital-mortality", "goal": 0}
        for row in invented.paper(victims=["lr"], seeds=[0])
    ]
    page = write([invented.write(tmp_path / "a", rows)], tmp_path / "out")
    assert page.words.count("share of the deaths among the test stays that are predicted to survive") == 1
    assert "predicted to die" not in page.text
    assert "the paper's attacks have goal 1, these goal 0" in page.words
