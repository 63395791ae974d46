"""What the HPARAMS page shows of a run: its settings, what it reached, when it began and ended."""

from __future__ import annotations

from typing import Any

from tensorboard.plugins.hparams import api_pb2, summary

from mimic3tf.config import TrainingConfig
from mimic3tf.dashboards.scalars import KEPT


def experiment() -> Any:
    """Summary that names the columns; TensorBoard takes that of any run for all of them."""
    settings = [
        api_pb2.HParamInfo(name=name, type=_kind(schema))
        for name, schema in TrainingConfig.model_json_schema()["properties"].items()
    ]
    metrics = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=tag.split("/")[1])
        for tag in KEPT.values()
    ]
    return summary.experiment_pb(settings, metrics)


def _kind(schema: dict[str, Any]) -> Any:
    kinds = {kind.get("type") for kind in schema.get("anyOf", [schema])}
    numbers = kinds & {"integer", "number"}
    return api_pb2.DATA_TYPE_FLOAT64 if numbers else api_pb2.DATA_TYPE_STRING


def session_start(config: TrainingConfig) -> Any:
    """Summary of the settings that are set, and of the time."""
    settings = config.model_dump(mode="json", exclude_none=True)
    return summary.session_start_pb(settings)


def session_end(*, finished: bool) -> Any:
    """Summary of how the run ended, and of the time."""
    return summary.session_end_pb(api_pb2.STATUS_SUCCESS if finished else api_pb2.STATUS_FAILURE)
