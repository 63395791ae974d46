"""From the benchmarks' layout to arrays, with the benchmarks' classes: change the import, keep the code."""

from typing import TYPE_CHECKING, Any

from mimic3tf.data.preprocessing import Discretizer as Discretizer
from mimic3tf.data.preprocessing import Normalizer as Normalizer
from mimic3tf.data.readers import InHospitalMortalityReader as InHospitalMortalityReader
from mimic3tf.data.readers import load_data as load_data
from mimic3tf.data.readers import read_chunk as read_chunk
from mimic3tf.data.readers import save_results as save_results

if TYPE_CHECKING:
    from mimic3tf.data.batch_gen import BatchGen as BatchGen


def __getattr__(name: str) -> Any:
    # The others need no Keras, which takes seconds to start.
    if name == "BatchGen":
        from mimic3tf.data.batch_gen import BatchGen

        return BatchGen
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
