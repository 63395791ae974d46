"""Write a report: one page that needs no other file, and its figures and tables as files."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
from matplotlib import rc_context

from mimic3tf.config import TrainingConfig
from mimic3tf.errors import UsageError
from mimic3tf.progress import track
from mimic3tf.report.exhibits import Exhibit, Picture, Report
from mimic3tf.report.figures import STYLE, percent
from mimic3tf.storage.files import PathText, whole_file, write_whole
from mimic3tf.storage.folders import scratch_folder
from mimic3tf.tables.cells import p_in_words
from mimic3tf.tables.columns import FOLLOWED, SCORES
from mimic3tf.victims import shown_victim

PAGE = "report.html"
FOLDERS = ("figures", "tables")
LONGEST_TABLE = 500
"""Largest number of rows that the page shows of the table behind a figure."""
LONG_TEXT = 40
"""Characters; in a column with a longer text, the page may break lines."""
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
    "auprc": "AUPRC",
    "minpse": "min(+P, Se)",
    "asr": "success rate",
    **SCORES,
    "at": "from hour",
    **FOLLOWED,
    "auroc_ci95_low": "95% low",
    "auroc_ci95_high": "95% high",
    "auprc_ci95_low": "95% low",
    "auprc_ci95_high": "95% high",
    "auroc_low": "95% low",
    "auroc_high": "95% high",
    "recall_at_1": "recall at 1%",
    "recall_at_1_low": "95% low",
    "recall_at_1_high": "95% high",
    "recall_at_5": "recall at 5%",
    "recall_at_5_low": "95% low",
    "recall_at_5_high": "95% high",
}
"""Column -> its heading, if the heading is not the column's own name."""
WITHOUT_DATE: dict[str, dict[str, Any]] = {
    "svg": {"metadata": {"Date": None}},
    "pdf": {"metadata": {"CreationDate": None}},
    "png": {"dpi": 200},
}


def check_report_folder(out: PathText) -> None:
    """Refuse a folder if the report would replace files in it that no report wrote.

    Args:
        out: folder that is to hold the report.

    Raises:
        UsageError: `out` is a file, or holds `figures` or `tables` but no report.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; name a folder")
    foreign = [name for name in FOLDERS if (out / name).exists()]
    if foreign and not (out / PAGE).exists():
        raise UsageError(
            f"--out {out}: holds {foreign[0]}/, but no report that wrote it; choose another folder"
        )


def write_report(report: Report, out: PathText) -> Path:
    """Write `report.html`, `figures/` (PDF and PNG) and `tables/` (CSV), and replace an earlier report.

    Args:
        report: the report.
        out: folder to write into; it is made if it does not exist.

    Returns:
        Path of `report.html`.

    Raises:
        UsageError: `check_report_folder` refuses the folder.
    """
    out = Path(out)
    check_report_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    shown = [item for section in report.sections for item in section.shows]
    with scratch_folder(out, ".report") as scratch:
        for name in FOLDERS:
            (scratch / name).mkdir()
        pictures: dict[str, dict[str, bytes]] = {}
        for item in track(shown, "Drawing"):
            if isinstance(item, Exhibit):
                write_whole(scratch / "tables" / f"{item.name}.csv", item.table.write_csv())
            if isinstance(item, Picture) or (isinstance(item, Exhibit) and item.draw is not None):
                pictures[item.name] = _drawn(item, ("svg", "pdf", "png"))
                for kind in pictures[item.name].keys() - {"svg"}:
                    with whole_file(scratch / "figures" / f"{item.name}.{kind}") as file:
                        file.write(pictures[item.name][kind])
        # The page is written first: it needs no other file, and marks the other files as those of a report.
        write_whole(out / PAGE, _page(report, pictures))
        for name in FOLDERS:
            if (out / name).exists():
                (out / name).rename(scratch / f"earlier-{name}")
            (scratch / name).rename(out / name)
    return out / PAGE


def page_of(report: Report) -> str:
    """Make the page of a report, which needs no other file."""
    shown = [item for section in report.sections for item in section.shows]
    drawn = [item for item in shown if isinstance(item, Exhibit) and item.draw is not None]
    return _page(report, {item.name: _drawn(item, ("svg", "png")) for item in track(drawn, "Drawing")})


def _page(report: Report, pictures: Mapping[str, Mapping[str, bytes]]) -> str:
    addresses = {name: _addresses(files) for name, files in pictures.items()}
    template = _environment().get_template("template.html")
    return template.render(report=report, pictures=addresses, longest=LONGEST_TABLE)


def _drawn(shown: Exhibit | Picture, kinds: Sequence[str]) -> dict[str, bytes]:
    """Return the contents of the files of a figure, by their endings; a picture is there as PNG only."""
    if isinstance(shown, Picture):
        return {"png": shown.png}
    assert shown.draw is not None
    files = {}
    with rc_context(STYLE):
        figure = shown.draw()
        for kind in kinds:
            content = io.BytesIO()
            figure.savefig(content, format=kind, **WITHOUT_DATE[kind])
            files[kind] = content.getvalue()
    return files


def _addresses(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return two `data:` addresses: `shown`, the picture that the page shows, and `png`, the one to save."""
    png = _address("png", files["png"])
    return {"shown": _address("svg+xml", files["svg"]) if "svg" in files else png, "png": png}


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


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
    """Choose the CSS class of a column's cells."""
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
    if column == "victim":
        return shown_victim(str(value))
    if isinstance(value, float):
        if column.endswith("p_value"):
            return p_in_words(value)
        if column in TrainingConfig.model_fields:
            return f"{value:g}"
        if "seconds" in column:
            return f"{value:.1f}"
        return f"{value:+.3f}" if "difference" in column else f"{value:.3f}"
    return str(value)
