"""From the benchmarks' layout to arrays, with the benchmarks' classes: change the import, keep the code."""

from mimic3tf.data.preprocessing import Discretizer as Discretizer
from mimic3tf.data.preprocessing import Normalizer as Normalizer
from mimic3tf.data.readers import BatchGen as BatchGen
from mimic3tf.data.readers import InHospitalMortalityReader as InHospitalMortalityReader
from mimic3tf.data.readers import load_data as load_data
from mimic3tf.data.readers import read_chunk as read_chunk
from mimic3tf.data.readers import save_results as save_results
