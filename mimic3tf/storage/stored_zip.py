"""Read the uncompressed zip files that NumPy, Keras and PyTorch write.

Compressed entries, and entries that share bytes, are refused: they would let a small file unpack to any size.
"""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic3tf.storage.files import read_file

KINDS = "biufU"
"""NumPy's letters for the types that are read: truth values, whole numbers, real numbers and texts."""


def read_stored(content: bytes) -> list[tuple[str, bytes]]:
    """Read the entries of a zip file.

    Args:
        content: the whole file.

    Returns:
        Name and content of every entry; together they are no larger than the file.

    Raises:
        ValueError: the file is damaged, or an entry is compressed.
    """
    if not content.startswith(b"PK\x03\x04"):
        raise ValueError("no zip file")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            listed = archive.infolist()
            if sum(entry.file_size for entry in listed) > len(content):
                raise ValueError("its entries are larger than the file")
            for entry in listed:
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"entry '{entry.filename}' is compressed")
            return [(entry.filename, archive.read(entry)) for entry in listed]
    except ValueError:
        raise
    except Exception as error:  # a damaged zip file can raise many kinds of errors, even struct.error
        raise ValueError(f"damaged zip file ({type(error).__name__}: {error})") from None


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read a `.npz` file of numbers and texts.

    `numpy.load` allocates as many numbers as the header of an array claims. Here the header must agree with
    the number of bytes that follow it.

    Args:
        path: file that `numpy.savez` wrote.

    Returns:
        The arrays by name.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is damaged, compressed, or holds anything else, such as Python objects.
    """
    return {name.removesuffix(".npy"): _array(content) for name, content in read_stored(read_file(path))}


def _array(content: bytes) -> NDArray[Any]:
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"array of format {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except ValueError:
        raise
    except Exception as error:  # a damaged header can raise many kinds of errors
        raise ValueError(f"damaged array ({type(error).__name__})") from None
    size = len(content) - file.tell()
    if dtype.kind not in KINDS or not dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError("an array of no real numbers or texts")
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"an array of shape {shape} in {size} bytes")
    numbers = np.frombuffer(content, dtype, offset=file.tell()) if size else np.empty(0, dtype)
    return numbers.reshape(shape, order="F" if fortran else "C").copy(order="K")
