"""What the HPARAMS page shows of a run: its settings, when it began and ended, and in which order.

Every run declares the same columns, of which none depends on the run: the page takes what one run says for
all of them.
"""

from __future__ import annotations

from typing import Any

from tensorboard.plugins.hparams import api_pb2, summary

from mimic3tf.config import TrainingConfig
from mimic3tf.dashboards.scalars import KEPT

FIRST = ("model", "poison_imputed", "poisoning_proportion", "poisoning_strength", "seed")
"""Settings whose columns come first: the page begins with five, of those that are said to differ, in the
order of the alphabet. That is also the order of these names."""


def columns() -> Any:
    """Summary of the columns: settings, those of `FIRST` first, then what the kept epoch reached."""
    settings = [
        api_pb2.HParamInfo(name=name, type=_type(schema), differs=name in FIRST)
        for name, schema in TrainingConfig.model_json_schema()["properties"].items()
    ]
    metrics = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=tag.partition("/")[2])
        for tag in KEPT.values()
    ]
    return summary.experiment_pb(settings, metrics)


def _type(schema: dict[str, Any]) -> Any:
    """Type of a setting's column, from its JSON schema; lists are written as text."""
    types = {one.get("type") for one in schema.get("anyOf", [schema])}
    return api_pb2.DATA_TYPE_FLOAT64 if types & {"number", "integer"} else api_pb2.DATA_TYPE_STRING


def session_start(config: TrainingConfig) -> Any:
    """Summary of the settings that are set, and of the time."""
    return summary.session_start_pb(config.model_dump(mode="json", exclude_none=True))


def session_end(*, finished: bool) -> Any:
    """Summary of how the run ended, and of the time."""
    return summary.session_end_pb(api_pb2.STATUS_SUCCESS if finished else api_pb2.STATUS_FAILURE)
