"""Show the results of audits as a section of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from mimic3tf.dashboards.events import event_files, read_pictures
from mimic3tf.report import figures
from mimic3tf.report.exhibits import Absent, Exhibit, Picture, Section
from mimic3tf.report.runs import short_names
from mimic3tf.tables import audits

HEADING = "Would it be noticed"
PICTURES = {
    "recovered patterns": "For each label, the shortest pattern with which the audit makes the model predict "
    "this label; beside these patterns, the true trigger if it is known. A backdoored model needs only a "
    "short pattern. Every channel is in units of its largest shift.",
    "suspicion of suspected stays": "How each detector ranks the training stays and the trusted stays. A "
    "detector finds the poisoned stays that are at the right.",
    "ROC of detectors": "Share of the poisoned stays that each detector finds, against the share of the "
    "clean stays that it flags.",
}
"""Tag of a picture that an audit writes for TensorBoard -> caption of the picture."""


def audits_section(folders: Sequence[Path], found: audits.Audits | None) -> Section:
    """Make the section with the results of some audits.

    Args:
        folders: folders of the audits.
        found: results of these audits; None if there is no audit.

    Returns:
        The section; without an audit, it says how to make one.
    """
    if found is None:
        absent = (
            "no audit.json found; run 'mimic3tf audit' with --out in the folder, or name the audit's folder"
        )
        return Section(HEADING, [Absent("Attacks and detectors", absent)])
    detectors, repairs = audits.summarize_detectors(found.detectors), audits.summarize_repairs(found.repairs)
    return Section(
        HEADING,
        [
            Exhibit(
                "conclusions",
                "What each audit concludes",
                audits.CONCLUSION_CAPTION,
                audits.without_common(found.conclusions),
            ),
            Exhibit("detectors", "Attacks and detectors", audits.CAPTION, audits.without_common(detectors)),
            Exhibit(
                "models",
                "Attacks and models",
                audits.MODEL_CAPTION,
                audits.without_common(audits.summarize_models(found.models)),
            ),
            _repairs(audits.without_common(repairs)),
            *_pictures(folders),
        ],
    )


def _repairs(table: pl.DataFrame) -> Exhibit:
    if not len(table):
        return Exhibit("repairs", "Attacks and repairs", audits.REPAIR_CAPTION, table)
    drawn = table.with_columns(
        of=pl.Series([audits.setting_in_words(row) for row in table.iter_rows(named=True)])
    )
    series = {
        "attack_success_rate": "attack success rate",
        "baseline_positive_rate": "the same stays without the trigger",
        "auroc": "AUROC of untouched test stays",
    }
    return Exhibit(
        "repairs",
        "Attacks and repairs",
        audits.REPAIR_CAPTION + " A repair that works lowers the success rate to the rate without the "
        "trigger, and does not change the AUROC.",
        table,
        lambda: figures.dots(drawn, series, "repair", "of", "share, or AUROC"),
        "Dots, one row for each repair and one panel for each attack: attack success rate, rate without the "
        "trigger and AUROC after the repair. The table below holds the same numbers.",
    )


def _pictures(folders: Sequence[Path]) -> list[Picture]:
    """Read the pictures that the audits wrote for TensorBoard."""
    shown = []
    for number, (folder, name) in enumerate(zip(folders, short_names(folders), strict=True), 1):
        found = read_pictures(event_files(folder))
        for tag, caption in PICTURES.items():
            if tag in found:
                title = f"{tag[0].upper()}{tag[1:]}, {name}"
                file = f"audit_{number}_{tag.replace(' ', '_').lower()}"
                shown.append(Picture(file, title, caption, found[tag], f"{title}: {caption}"))
    return shown
