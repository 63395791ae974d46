"""What a mapping makes of a MEDS data set, as tables in the terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from mimic3tf.channels import MIMIC3
from mimic3tf.sources.meds import own_mapping
from mimic3tf.sources.meds_explain import Explanation
from mimic3tf.tables.cells import as_cell
from mimic3tf.tables.fitting import print_paragraph, print_table

EXAMPLE = """
stays:
  icu_admission: "ICU_ADMISSION//(?P<unit>.*)"
  icu_discharge: "ICU_DISCHARGE//(?P<unit>.*)"
  hospital_admission: "HOSPITAL_ADMISSION(//.*)?"
  hospital_discharge: "HOSPITAL_DISCHARGE(//.*)?"
  died: "HOSPITAL_DISCHARGE//DIED"
  icu_stay_id: icustay_id
  admission_id: hadm_id
channels:
  Heart Rate:
    - code: "HR//.*"
  Temperature:
    - {code: "TEMP_F", unit: degF}
  Weight:
    - {code: "WEIGHT_LB", factor: 0.453592, at_admission: true}
  Glascow coma scale verbal response:
    - code: "GCS_VERBAL"
      categories: {"5": Oriented, "4": Confused, "1": No Response}
"""
"""A mapping to begin with."""


def print_explanation(explanation: Explanation) -> None:
    """Print which codes each channel has, what becomes of their values, and which codes have no channel."""
    _print_channels(explanation)
    _print_unmapped(explanation)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in explanation.stays.items() if count)
    print_paragraph(f"Events that tell of stays: {kinds or 'none'}.")
    if explanation.mapping is None and (own := own_mapping(explanation.data)) is not None:
        print_paragraph(f"No shipped mapping fits these codes, but the data set brings one: --mapping {own}")
    elif explanation.mapping is None:
        print_paragraph(
            "No shipped mapping fits these codes. Write one, and give it with --mapping FILE.yaml. Each code "
            f"is a regular expression that the whole code has to match. A mapping to begin with:\n{EXAMPLE}"
        )


def _print_channels(explanation: Explanation) -> None:
    data, mapping = as_cell(str(explanation.data)), explanation.mapping
    table = Table(
        title=f"No mapping fits {data}" if mapping is None else f"Mapping {as_cell(mapping)} of {data}",
        caption="Median (lowest to highest) of all events with a value, inside the ICU and outside. Lost: "
        "values that are none of the channel, such as a text where a number belongs.",
    )
    table.add_column("channel and its codes")
    for heading in ("events", "lost"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("as charted", "converted"):
        table.add_column(heading, justify="right")
    channels = {row["channel"]: row for row in explanation.channels.iter_rows(named=True)}
    codes = explanation.codes.partition_by("channel", as_dict=True)
    for position, channel in enumerate(MIMIC3):
        row = channels.get(position)
        if row is None:
            table.add_row(as_cell(channel.name), "0", "0", "", "", end_section=True)
            continue
        inside = codes[(position,)]
        spread = _converted(row) + (f" {channel.unit}" if channel.unit else "")
        table.add_row(as_cell(channel.name), f"{row['events']:,}", f"{row['lost']:,}", "", as_cell(spread))
        for number, code in enumerate(inside.iter_rows(named=True), start=1):
            table.add_row(
                f"  {as_cell(code['found'])}",
                f"{code['events']:,}",
                f"{code['lost']:,}",
                as_cell(_spread(code, "charted") or _texts(code["texts"], "text", "texts")),
                as_cell(_converted(code)),
                end_section=number == len(inside),
            )
    print_table(table)


def _print_unmapped(explanation: Explanation) -> None:
    table = Table(
        title="Frequent codes without a channel",
        caption="Only codes of events with a time and a value; those with most numbers first.",
    )
    table.add_column("code")
    for heading in ("events", "numbers"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("description")
    for code, events, numbers, description in explanation.unmapped.iter_rows():
        table.add_row(as_cell(code), f"{events:,}", f"{numbers:,}", as_cell(description or ""))
    print_table(table)


def _converted(row: dict[str, Any]) -> str:
    return _spread(row, "number") or _texts(row["categories"], "category", "categories")


def _spread(row: dict[str, Any], of: str) -> str:
    low, median, high = (row[f"{of}_{what}"] for what in ("low", "median", "high"))
    return "" if low is None else f"{median:.4g} ({low:.4g} to {high:.4g})"


def _texts(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"
