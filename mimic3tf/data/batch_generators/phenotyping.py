"""Batches of stays for phenotyping."""

from __future__ import annotations

from mimic3tf.data.batch_generators.stays import LabelledStays


class BatchGen(LabelledStays):
    """Batches of stays, as mimic3-benchmarks' generator makes them: X [B, T, D] and y int32 [B, 25].

    Without `shuffle`, the stays of a batch have similar lengths, and the order of the batches is random.
    """
