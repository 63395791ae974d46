"""Read event files without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event

from mimic3tf.storage.files import read_file
from mimic3tf.training.run_files import EVENTS

EARLIER = "tensorboard"
"""Subfolder of a run or an audit in which earlier versions wrote the event files."""
LENGTH_AND_CHECKSUM, CHECKSUM = 12, 4
"""Bytes before and after a record (TensorFlow, `record_writer.h`)."""
PNG = b"\x89PNG\r\n\x1a\n"
"""The first bytes of every PNG file."""


def event_files(folder: Path) -> list[Path]:
    """List the event files of a run or an audit; files of earlier versions come first."""
    return [file for place in (folder / EARLIER, folder) for file in sorted(place.glob(f"{EVENTS}*"))]


def read_events(files: Sequence[Path]) -> Iterator[Event]:
    """Read the events of some files in order. Of each file, reading ends where it is damaged or cut off."""
    for file in files:
        for record in _records(read_file(file)):
            try:
                yield Event.FromString(record)
            except DecodeError:
                break


def read_pictures(files: Sequence[Path]) -> dict[str, bytes]:
    """Read the PNG pictures in some event files: tag -> contents of the last picture with this tag."""
    return {
        value.tag: content
        for event in read_events(files)
        for value in event.summary.value
        for content in value.tensor.string_val
        if content.startswith(PNG)
    }


def _records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a TFRecord file; a record that is cut off ends the reading.

    TensorFlow's own reader is not used: it reserves as much memory as the header of a record says. If the
    header is damaged and the memory is too small, it crashes.
    """
    start = LENGTH_AND_CHECKSUM
    while start <= len(content):
        end = start + int.from_bytes(content[start - LENGTH_AND_CHECKSUM : start - CHECKSUM], "little")
        if end + CHECKSUM > len(content):
            return
        yield content[start:end]
        start = end + CHECKSUM + LENGTH_AND_CHECKSUM
