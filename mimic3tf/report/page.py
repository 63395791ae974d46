"""Write a report: one page that needs nothing else, the figures as files and the tables behind them."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
from matplotlib import rc_context
from rich.console import Console
from rich.progress import track

from mimic3tf.errors import UsageError
from mimic3tf.report.exhibits import Exhibit
from mimic3tf.report.figures import STYLE, percent
from mimic3tf.report.patterns import Stay
from mimic3tf.report.sections import sections_of
from mimic3tf.report.sweep import Sweeps
from mimic3tf.storage.files import PathText, write_whole
from mimic3tf.storage.folders import scratch_folder
from mimic3tf.tables.cells import p_in_words
from mimic3tf.tables.summary import victims_of

PAGE = "report.html"
FOLDERS = ("figures", "tables")
LONGEST_TABLE = 500
"""Rows of the table behind a figure that the page itself shows."""
LONG_TEXT = 40
"""Characters from which on a cell's text may be broken."""
HEADINGS = {
    "poison_imputed": "mode",
    "poisoning_proportion": "poisoned",
    "poisoning_strength": "strength",
    "attack_success_rate": "success rate",
    "clean_auroc": "AUROC",
    "clean_auprc": "AUPRC",
    "paper_mode": "paper's mode",
    "ci95_low": "95% low",
    "ci95_high": "95% high",
    "auroc": "AUROC",
    "auroc_low": "95% low",
    "auroc_high": "95% high",
    "recall_at_1": "recall at 1%",
    "recall_at_1_low": "95% low",
    "recall_at_1_high": "95% high",
    "recall_at_5": "recall at 5%",
    "recall_at_5_low": "95% low",
    "recall_at_5_high": "95% high",
}
"""Headings of columns, where not the name itself."""
WITHOUT_DATE: dict[str, dict[str, Any]] = {
    "svg": {"metadata": {"Date": None}},
    "pdf": {"metadata": {"CreationDate": None}},
    "png": {"dpi": 200},
}


def check_report_folder(out: PathText) -> None:
    """Refuse a folder whose files a report would replace though no report wrote them.

    Raises:
        UsageError: it is a file, or holds `figures` or `tables` but no report.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; name a folder")
    foreign = [name for name in FOLDERS if (out / name).exists()]
    if foreign and not (out / PAGE).exists():
        raise UsageError(
            f"--out {out}: holds {foreign[0]}/, but no report that wrote it; choose another folder"
        )


def write_report(sweeps: Sweeps, out: PathText, *, stay: Stay | None, no_stay: str) -> Path:
    """Write `report.html`, `figures/` (PDF and PNG) and `tables/` (CSV); an earlier report is replaced.

    Args:
        sweeps: what was measured.
        out: folder to write into.
        stay: a stay with and without the trigger, or None.
        no_stay: why there is none.

    Returns:
        The page.

    Raises:
        UsageError: as `check_report_folder`.
    """
    out = Path(out)
    check_report_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    sections = sections_of(sweeps, stay, no_stay)
    exhibits = [item for section in sections for item in section.shows if isinstance(item, Exhibit)]
    with scratch_folder(out, ".report") as scratch:
        for name in FOLDERS:
            (scratch / name).mkdir()
        pictures = {}
        for exhibit in track(exhibits, "Drawing", console=Console(stderr=True), transient=True):
            write_whole(scratch / "tables" / f"{exhibit.name}.csv", exhibit.table.write_csv())
            if exhibit.draw is not None:
                pictures[exhibit.name] = _draw(exhibit, scratch / "figures")
        page = (
            _environment()
            .get_template("template.html")
            .render(
                sections=sections,
                sweeps=sweeps.sweeps,
                pictures=pictures,
                summary=_summary(sweeps),
                longest=LONGEST_TABLE,
            )
        )
        # The page first: it needs none of the others, and says whose they are.
        write_whole(out / PAGE, page)
        for name in FOLDERS:
            if (out / name).exists():
                (out / name).rename(scratch / f"earlier-{name}")
            (scratch / name).rename(out / name)
    return out / PAGE


def _draw(exhibit: Exhibit, folder: Path) -> str:
    """Write a figure's files, and return it as SVG in base64."""
    assert exhibit.draw is not None
    picture = io.BytesIO()
    with rc_context(STYLE):
        figure = exhibit.draw()
        for kind in ("pdf", "png"):
            figure.savefig(folder / f"{exhibit.name}.{kind}", **WITHOUT_DATE[kind])
        figure.savefig(picture, format="svg", **WITHOUT_DATE["svg"])
    return base64.b64encode(picture.getvalue()).decode()


def _summary(sweeps: Sweeps) -> str:
    results = sweeps.results
    victims = ", ".join(name.upper() for name in victims_of(results))
    seeds, stays = results["seed"].n_unique(), int(results["training_stays"].to_numpy().max())
    return (
        f"{results['trial'].n_unique()} finished trials of {victims}, {len(sweeps.failed)} failed; {seeds} "
        f"{'seed' if seeds == 1 else 'seeds'}, up to {stays:,} training stays. An "
        "attack success rate is a statement about these victims, this trigger and this cohort."
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mimic3tf.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": _cell, "heading": _heading, "kind": _kind}
    return environment


def _heading(name: str) -> str:
    return HEADINGS.get(name, name.replace("_", " "))


def _kind(column: pl.Series) -> str:
    """Class of a column's cells."""
    if column.dtype.is_numeric():
        return "number"
    longest = column.cast(pl.String).str.len_chars().max()
    return "text long" if isinstance(longest, int) and longest > LONG_TEXT else "text"


def _cell(value: Any, column: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column == "poisoning_proportion":
        return percent(value) if value else "clean"
    if column == "poisoning_strength":
        return f"{value:g}"
    if column == "victim":
        return str(value).upper()
    if isinstance(value, float):
        if column.endswith("p_value"):
            return p_in_words(value)
        if "seconds" in column:
            return f"{value:.1f}"
        return f"{value:+.3f}" if "difference" in column else f"{value:.3f}"
    return str(value)
