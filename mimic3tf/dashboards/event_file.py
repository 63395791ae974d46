"""Write the event file from which TensorBoard reads a run."""

from __future__ import annotations

import errno
import platform
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.image.metadata import create_summary_metadata as image_metadata
from tensorboard.util.tensor_util import make_tensor_proto

from mimic3tf.dashboards.events import event_files, read_events
from mimic3tf.training.run_files import EVENTS


class EventFile:
    """Write the TensorBoard events of one run to one file.

    `tf.summary` is not used: it gives every event the time of writing, but events that are copied from an
    interrupted run must keep their own times. TensorBoard's own writer is not used either: it computes
    checksums in Python, which takes longer than all other work.

    Args:
        folder: directory of the file; it is made if it does not exist.
        epochs: number of epochs of an interrupted run whose events are copied from the old event files in the
            folder. The old event files are deleted.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, folder: Path, *, epochs: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        old = event_files(folder)
        kept = _events_of(old, epochs)
        begun = time.time_ns()
        while (path := folder / f"{EVENTS}{begun}.{platform.node()}").exists():  # the clock was set back
            begun += 1
        self._path = path
        with self._naming_it():
            self._writer = tf.io.TFRecordWriter(str(path))
        for event in (Event(wall_time=time.time(), file_version="brain.Event:2"), *kept):
            self._add(event)
        self.flush()
        # The old files are deleted last: if the process is killed before, no event is lost, and the next
        # start copies each event only once.
        for path in old:
            path.unlink()

    def write(self, summary: Any, step: int = 0) -> None:
        """Write a summary, which may be of TensorBoard's or of TensorFlow's class."""
        message = Summary.FromString(summary.SerializeToString())
        self._add(Event(wall_time=time.time(), step=step, summary=message))

    def image(self, tag: str, picture: NDArray[np.uint8]) -> None:
        """Write a picture uint8 [H, W, 3] at step 0."""
        height, width = picture.shape[:2]
        content = [str(width).encode(), str(height).encode(), tf.io.encode_png(picture).numpy()]
        summary = Summary()
        summary.value.add(tag=tag, metadata=image_metadata(tag, ""), tensor=make_tensor_proto(content))
        self.write(summary)

    def graph(self, graph: Any) -> None:
        """Write a graph, given as a `GraphDef`."""
        self._add(Event(wall_time=time.time(), graph_def=graph.SerializeToString()))

    def _add(self, event: Event) -> None:
        with self._naming_it():
            self._writer.write(event.SerializeToString())

    def flush(self) -> None:
        """Write the events that are still in memory to the file."""
        with self._naming_it():
            self._writer.flush()

    def close(self) -> None:
        """Write the events that are still in memory, and close the file."""
        with self._naming_it():
            self._writer.close()

    def _naming_it(self) -> AbstractContextManager[None]:
        return naming_faults(self._path)


@contextmanager
def naming_faults(path: Path) -> Iterator[None]:
    """Turn TensorFlow's errors of writing, such as for a full disk, into an `OSError` that names the file."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, error.message.split("; ")[-1], str(path)) from None


def _events_of(files: list[Path], epochs: int) -> list[Event]:
    """Read the events of epochs 1 to `epochs`, the last one of each tag and epoch.

    Events at step 0 are left out: they are written before and after the epochs.
    """
    found: dict[tuple[int, str], Event] = {}
    for event in read_events(files):
        if 1 <= event.step <= epochs and len(event.summary.value) == 1:
            found[event.step, event.summary.value[0].tag] = event
    return list(found.values())
