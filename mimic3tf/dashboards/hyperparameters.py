"""What the HPARAMS page shows of a run: its settings, when it began and ended.

The columns are not declared, for then TensorBoard takes what one run says for all of them. Otherwise it
finds them itself, puts settings that differ first, and metrics in the order of the alphabet: the kept
epoch's come first.
"""

from __future__ import annotations

from typing import Any

from tensorboard.plugins.hparams import api_pb2, summary

from mimic3tf.config import TrainingConfig


def session_start(config: TrainingConfig) -> Any:
    """Summary of the settings that are set, and of the time."""
    return summary.session_start_pb(config.model_dump(mode="json", exclude_none=True))


def session_end(*, finished: bool) -> Any:
    """Summary of how the run ended, and of the time."""
    return summary.session_end_pb(api_pb2.STATUS_SUCCESS if finished else api_pb2.STATUS_FAILURE)
