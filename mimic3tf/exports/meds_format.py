"""The files of the Medical Event Data Standard (MEDS 0.4), and the codes that an export uses.

Source: the README and the schemas of https://github.com/Medical-Event-Data-Standard/meds. Columns that MEDS
does not know (`hadm_id`, `icustay_id`) have the names of the MEDS conversion of MIMIC-IV.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import yaml

from mimic3tf import __version__
from mimic3tf.channels import Channel, ChannelSet
from mimic3tf.data.channels_file import CHANNELS_FILE, channels_text
from mimic3tf.data.directory import Split
from mimic3tf.errors import DataError
from mimic3tf.storage import files

DataType = pl.DataType | type[pl.DataType]
MEDS_VERSION = "0.4.1"
SPLIT_NAMES: Mapping[Split, str] = {"train": "train", "val": "tuning", "test": "held_out"}
"""Split -> its name in MEDS."""
ADMISSIONS = ("HOSPITAL_ADMISSION", "ICU_ADMISSION")
DISCHARGE, OUTCOMES = "ICU_DISCHARGE", ("HOSPITAL_DISCHARGE//ALIVE", "HOSPITAL_DISCHARGE//DIED")
"""Codes at the end of a stay; the outcome of label 0 comes first."""

EVENTS: dict[str, DataType] = {
    "subject_id": pl.Int64,
    "time": pl.Datetime("us"),
    "code": pl.String,
    "numeric_value": pl.Float32,
    "text_value": pl.String,
    "hadm_id": pl.Int64,
    "icustay_id": pl.Int64,
}
"""Columns of an event file -> their types."""
LABELS: dict[str, DataType] = {
    "subject_id": pl.Int64,
    "prediction_time": pl.Datetime("us"),
    "boolean_value": pl.Boolean,
}
SUBJECT_SPLITS: dict[str, DataType] = {"subject_id": pl.Int64, "split": pl.String}
CODES: dict[str, DataType] = {"code": pl.String, "description": pl.String}

_ARROW_SCHEMAS = {
    tuple(EVENTS): (
        "/////7gBAAAQAAAAAAAKAAwABgAFAAgACgAAAAABBAAMAAAACAAIAAAABAAIAAAABAAAAAcAAABMAQAACAEAANgAAACgAAAAcAAAADwAAAAE"
        "AAAA4P7//wAAAQIQAAAAHAAAAAQAAAAAAAAACgAAAGljdXN0YXlfaWQAAND+//8AAAABQAAAABT///8AAAECEAAAABgAAAAEAAAAAAAAAAcA"
        "AABoYWRtX2lkAAD///8AAAABQAAAAET///8AAAEUEAAAABwAAAAEAAAAAAAAAAoAAAB0ZXh0X3ZhbHVlAACk////cP///wAAAQMQAAAAIAAA"
        "AAQAAAAAAAAADQAAAG51bWVyaWNfdmFsdWUAAACq////AAABAKT///8AAAEFEAAAABwAAAAEAAAAAAAAAAQAAABjb2RlAAAAAAQABAAEAAAA"
        "0P///wAAAQoQAAAAHAAAAAQAAAAAAAAABAAAAHRpbWUAAAYACAAGAAYAAAAAAAIAEAAUAAgABgAHAAwAAAAQABAAAAAAAAECEAAAACQAAAAE"
        "AAAAAAAAAAoAAABzdWJqZWN0X2lkAAAIAAwACAAHAAgAAAAAAAABQAAAAA=="
    ),
    tuple(SUBJECT_SPLITS): (
        "/////7AAAAAQAAAAAAAKAAwABgAFAAgACgAAAAABBAAMAAAACAAIAAAABAAIAAAABAAAAAIAAABEAAAABAAAANT///8AAAEFEAAAABwAAAAE"
        "AAAAAAAAAAUAAABzcGxpdAAAAAQABAAEAAAAEAAUAAgABgAHAAwAAAAQABAAAAAAAAECEAAAACQAAAAEAAAAAAAAAAoAAABzdWJqZWN0X2lk"
        "AAAIAAwACAAHAAgAAAAAAAABQAAAAA=="
    ),
    tuple(CODES): (
        "/////6AAAAAQAAAAAAAKAAwABgAFAAgACgAAAAABBAAMAAAACAAIAAAABAAIAAAABAAAAAIAAABEAAAABAAAANT///8AAAEFEAAAABwAAAAE"
        "AAAAAAAAAAsAAABkZXNjcmlwdGlvbgDI////EAAUAAgABgAHAAwAAAAQABAAAAAAAAEFEAAAABwAAAAEAAAAAAAAAAQAAABjb2RlAAAAAAQA"
        "BAAEAAAA"
    ),
}
"""Columns of a file -> their Arrow schema in base64 (`pyarrow.Schema.serialize`).

Polars labels all texts as "large_string". The schema check of MEDS wants "string" for all texts but
`text_value`, and reads the label only: the bytes of both are the same.
"""


def write_parquet(table: pl.DataFrame, path: Path) -> None:
    """Write one of the tables above as parquet, with the types that the schema check of MEDS demands.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = _ARROW_SCHEMAS.get(tuple(table.columns))
    files.write_parquet(table, path, metadata=None if schema is None else {"ARROW:schema": schema})


def code_of(channel: Channel) -> str:
    """Return the code of a channel: `CHANNEL//<name>//<unit>`, without the unit if the channel has none."""
    return "//".join(["CHANNEL", channel.name, *([channel.unit] if channel.unit else [])])


def codes_of(channels: ChannelSet) -> list[str]:
    """Return the codes of the channels [C].

    Raises:
        DataError: two channels have the same code; names it.
    """
    codes = [code_of(channel) for channel in channels]
    for code in codes:
        if codes.count(code) > 1:
            raise DataError(
                f"{CHANNELS_FILE}: two channels get the code '{code}'; write no '//' in their names"
            )
    return codes


def mapping_text(channels: ChannelSet) -> str:
    """Write the mapping by which `mimic3tf prepare meds` reads the codes back, as YAML."""
    stays = {
        "icu_admission": ADMISSIONS[1],
        "icu_discharge": DISCHARGE,
        "hospital_admission": ADMISSIONS[0],
        "hospital_discharge": "|".join(OUTCOMES),
        "died": OUTCOMES[1],
        "icu_stay_id": "icustay_id",
        "admission_id": "hadm_id",
    }
    # Not every reader of regular expressions takes an escaped space.
    codes = [re.escape(code).replace("\\ ", " ") for code in codes_of(channels)]
    measured = {channel.name: [{"code": code}] for channel, code in zip(channels, codes, strict=True)}
    return yaml.safe_dump({"stays": stays, "channels": measured}, sort_keys=False, allow_unicode=True)


def write_metadata(folder: Path, channels: ChannelSet, subject_splits: pl.DataFrame) -> None:
    """Write `metadata/`, but for the list of stays.

    Args:
        folder: the folder `metadata`, which is made if needed.
        channels: the channels of the events.
        subject_splits: the columns of `SUBJECT_SPLITS`, one row a subject.
    """
    write_parquet(subject_splits, folder / "subject_splits.parquet")
    described = {
        **dict.fromkeys(ADMISSIONS, "hour 0 of a stay, at an invented date"),
        DISCHARGE: "an hour after the period and the last measurement; the true time is not known",
        OUTCOMES[0]: "the same hour; the stay has label 0",
        OUTCOMES[1]: "the same hour; the stay has label 1",
    }
    for channel, code in zip(channels, codes_of(channels), strict=True):
        what = "the text of a category, and its clinical score" if channel.is_categorical else channel.unit
        described[code] = f"{channel.name}, {what}" if what else channel.name
    codes = {"code": list(described), "description": list(described.values())}
    write_parquet(pl.DataFrame(codes, CODES), folder / "codes.parquet")
    (folder / "mapping.yaml").write_text(mapping_text(channels), encoding="utf-8")
    (folder / CHANNELS_FILE).write_text(channels_text(channels), encoding="utf-8")
    # Nothing here tells a poisoned directory from a clean one: no name of a folder, and no time.
    made = {
        "dataset_name": "benchmark directory",
        "etl_name": "mimic3tf",
        "etl_version": __version__,
        "meds_version": MEDS_VERSION,
        "raw_source_id_columns": ["hadm_id", "icustay_id"],
    }
    (folder / "dataset.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
