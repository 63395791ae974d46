"""What an interrupted run wrote is kept, up to its checkpoint, with its times."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from mimic3tf.dashboards import event_file
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


@pytest.mark.parametrize("length", [2**31, 2**62, 2**64 - 1])
def test_a_record_longer_than_its_file_ends_it(tmp_path: Path, length: int) -> None:
    """TensorFlow's own reader ends the process here."""
    file = EventFile(tmp_path)
    file.write(scalar_pb("loss", 1.0), 1)
    file.close()
    (first,) = tmp_path.iterdir()
    header = length.to_bytes(8, "little")
    first.write_bytes(first.read_bytes() + header + masked_crc32c(header).to_bytes(4, "little") + b"cut")
    EventFile(tmp_path, epochs=1).close()
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    assert [event.step for event in events.Tensors("loss")] == [1]


@settings(max_examples=100)
@given(at=st.floats(0, 1), length=st.integers(0, 12), inserted=st.binary(max_size=12))
def test_a_changed_event_file_is_read_as_far_as_it_goes(at: float, length: int, inserted: bytes) -> None:
    event = Event(step=1, summary=Summary.FromString(scalar_pb("loss", 1.0).SerializeToString()))
    record = event.SerializeToString()
    content = (len(record).to_bytes(8, "little") + b"\0" * 4 + record + b"\0" * 4) * 3
    start = int(at * len(content))
    changed = content[:start] + inserted + content[start + length :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mimic3tf.dashboards.events.read_file", lambda _: changed)
        events = event_file._events_of([Path("events.out.tfevents.1")], 3)
    assert all(1 <= event.step <= 3 for event in events)


def test_a_clock_that_stands_or_goes_back_costs_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for epochs, nanoseconds in enumerate((5, 5, 3)):
        monkeypatch.setattr("mimic3tf.dashboards.event_file.time.time_ns", lambda now=nanoseconds: now)
        file = EventFile(tmp_path, epochs=epochs)
        file.write(scalar_pb("loss", 1.0), epochs + 1)
        file.close()
        assert len(list(tmp_path.iterdir())) == 1
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload().Tensors("loss")
    assert [event.step for event in events] == [1, 2, 3]


def test_a_run_that_an_earlier_version_began_keeps_its_epochs(tmp_path: Path) -> None:
    """It wrote them to a folder below the run's."""
    earlier = EventFile(tmp_path / "tensorboard")
    earlier.write(scalar_pb("loss", 0.5), 1)
    earlier.close()
    EventFile(tmp_path, epochs=1).close()
    assert list((tmp_path / "tensorboard").iterdir()) == []
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload().Tensors("loss")
    assert [(event.step, event.tensor_proto.float_val[0]) for event in events] == [(1, 0.5)]
