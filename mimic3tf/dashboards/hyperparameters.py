"""Make summaries of a run for TensorBoard's HPARAMS page: the columns, the settings, the start and the end.

Every run declares the same columns, because the HPARAMS page reads the columns from one run and uses them for
all runs.
"""

from __future__ import annotations

from typing import Any

from tensorboard.plugins.hparams import api_pb2, summary

from mimic3tf.config import TrainingConfig
from mimic3tf.dashboards.scalars import KEPT

FIRST = ("model", "poison_imputed", "poisoning_proportion", "poisoning_strength", "seed")
"""Settings whose columns come first. The HPARAMS page first shows five of the settings that are declared to
differ between runs, in alphabetical order; these names are in the same order."""


def columns() -> Any:
    """Make a summary of the columns: settings, with `FIRST` at the front, then numbers of the kept epoch."""
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
    """Give the type of a setting's column by the JSON schema of the setting; a list is written as text."""
    types = {one.get("type") for one in schema.get("anyOf", [schema])}
    if types == {"boolean"}:
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_FLOAT64 if types & {"number", "integer"} else api_pb2.DATA_TYPE_STRING


def session_start(config: TrainingConfig) -> Any:
    """Make a summary of the settings that have a value, and of the start time."""
    settings = config.model_dump(mode="json", exclude_none=True)
    # The page knows no groups of settings.
    shown = {name: str(value) if isinstance(value, dict) else value for name, value in settings.items()}
    return summary.session_start_pb(shown)


def session_end(*, finished: bool) -> Any:
    """Make a summary of the end of a run: its time, and whether the run finished or failed."""
    return summary.session_end_pb(api_pb2.STATUS_SUCCESS if finished else api_pb2.STATUS_FAILURE)
