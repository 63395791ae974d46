"""What an interrupted run wrote is kept, up to its checkpoint, with its times."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from mimic3tf.dashboards.event_file import EventFile


def test_finished_epochs_are_kept_once_and_with_their_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimic3tf.dashboards.event_file.time.time", lambda: 100.0)
    file = EventFile(tmp_path)
    for step in range(4):
        file.write(scalar_pb("loss", step / 2), step)
    file.close()
    (first,) = tmp_path.iterdir()
    # A kill cut the last event off; another one came while a second start wrote the first ones again.
    (tmp_path / "events.out.tfevents.0").write_bytes(first.read_bytes()[:-3])
    monkeypatch.setattr("mimic3tf.dashboards.event_file.time.time", lambda: 200.0)
    file = EventFile(tmp_path, epochs=2)
    file.write(scalar_pb("loss", 9.0), 3)
    file.close()
    assert len(list(tmp_path.iterdir())) == 1
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload().Tensors("loss")
    found = [(event.step, event.wall_time, event.tensor_proto.float_val[0]) for event in events]
    assert found == [(1, 100.0, 0.5), (2, 100.0, 1.0), (3, 200.0, 9.0)]


def test_a_run_that_begins_anew_keeps_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        file = EventFile(tmp_path)
        file.write(scalar_pb("loss", 1.0), 1)
        file.close()
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    assert len(events.Tensors("loss")) == 1
