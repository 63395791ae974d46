"""Reads what an event file holds, without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event

from mimic3tf.storage.files import read_file
from mimic3tf.training.run_files import EVENTS

EARLIER = "tensorboard"
"""Folder below a run's or an audit's where earlier versions wrote its events."""
LENGTH_AND_CHECKSUM, CHECKSUM = 12, 4
"""Bytes before and after a record (TensorFlow, `record_writer.h`)."""
PNG = b"\x89PNG\r\n\x1a\n"
"""A PNG file begins so."""


def event_files(folder: Path) -> list[Path]:
    """Files of events of a run or an audit, those of earlier versions first."""
    return [file for place in (folder / EARLIER, folder) for file in sorted(place.glob(f"{EVENTS}*"))]


def read_events(files: Sequence[Path]) -> Iterator[Event]:
    """The events of some files, in order, of each up to where it is damaged or a kill cut it off."""
    for file in files:
        for record in _records(read_file(file)):
            try:
                yield Event.FromString(record)
            except DecodeError:
                break


def read_pictures(files: Sequence[Path]) -> dict[str, bytes]:
    """Contents of the PNG files that some files of events hold, by tag; the last of each tag."""
    return {
        value.tag: content
        for event in read_events(files)
        for value in event.summary.value
        for content in value.tensor.string_val
        if content.startswith(PNG)
    }


def _records(content: bytes) -> Iterator[bytes]:
    """Records of a TFRecord file, up to where a kill cut one off.

    TensorFlow's reader makes room for as many bytes as a record's header names, and crashes where there is
    none.
    """
    start = LENGTH_AND_CHECKSUM
    while start <= len(content):
        end = start + int.from_bytes(content[start - LENGTH_AND_CHECKSUM : start - CHECKSUM], "little")
        if end + CHECKSUM > len(content):
            return
        yield content[start:end]
        start = end + CHECKSUM + LENGTH_AND_CHECKSUM
