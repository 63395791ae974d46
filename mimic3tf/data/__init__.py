"""The benchmarks' data classes: change the import, keep the code."""

from mimic3tf.data.preprocessing import Discretizer, Normalizer
from mimic3tf.data.readers import BatchGen, InHospitalMortalityReader, load_data, read_chunk, save_results

__all__ = [
    "BatchGen",
    "Discretizer",
    "InHospitalMortalityReader",
    "Normalizer",
    "load_data",
    "read_chunk",
    "save_results",
]
