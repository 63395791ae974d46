"""Read the benchmarks' layout into arrays, with the classes of mimic3-benchmarks: only imports change."""

from typing import TYPE_CHECKING, Any

from mimic3tf.data.deep_supervision import DeepSupervisionDataLoader as DeepSupervisionDataLoader
from mimic3tf.data.preprocessing import Discretizer as Discretizer
from mimic3tf.data.preprocessing import Normalizer as Normalizer
from mimic3tf.data.readers import DecompensationReader as DecompensationReader
from mimic3tf.data.readers import InHospitalMortalityReader as InHospitalMortalityReader
from mimic3tf.data.readers import LengthOfStayReader as LengthOfStayReader
from mimic3tf.data.readers import MultitaskReader as MultitaskReader
from mimic3tf.data.readers import PhenotypingReader as PhenotypingReader
from mimic3tf.data.readers import load_data as load_data
from mimic3tf.data.readers import read_chunk as read_chunk
from mimic3tf.data.readers import save_results as save_results

if TYPE_CHECKING:
    from mimic3tf.data.batch_generators.in_hospital_mortality import BatchGen as BatchGen


def __getattr__(name: str) -> Any:
    # Only BatchGen needs Keras, which takes seconds to import.
    if name == "BatchGen":
        from mimic3tf.data.batch_generators.in_hospital_mortality import BatchGen

        return BatchGen
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
