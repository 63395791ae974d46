"""Read a user's Keras model from its file, without running code that the file holds."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from mimic3tf.errors import DataError, UsageError, near_path


def load_keras_model(path: Path, *, trust: bool) -> keras.Model:
    """Read a `.keras` file.

    Keras refuses to read layers that hold Python code (Lambda) and classes that it does not know, unless the
    user trusts the file.

    Args:
        path: the file.
        trust: whether code in the file may run.

    Raises:
        UsageError: there is no such file, it has another ending, or it holds code and is not trusted.
        DataError: the file is damaged.
    """
    if not path.is_file():
        raise UsageError(f"--model {path}: no such file{near_path(path)}")
    if path.suffix != ".keras":
        raise UsageError(f"--model {path}: is no .keras file; write one with model.save('model.keras')")
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=not trust)
    except Exception as error:  # a damaged file can raise any error
        text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        if not trust and ("safe_mode" in str(error) or "Could not locate" in str(error)):
            raise UsageError(
                f"--model {path}: holds Python code, which could do anything on this machine; add "
                "--trust-model (trust_model=True in Python) only if you know who made the file"
            ) from None
        raise DataError(f"--model {path}: not a Keras model, or damaged ({text})") from None
    if not isinstance(model, keras.Model):
        raise DataError(f"--model {path}: holds a {type(model).__name__}, not a Keras model")
    return model


def check_reads(model: object, x: NDArray[np.float32]) -> None:
    """Refuse a model that does not read arrays like x.

    Raises:
        UsageError: it is no Keras model, or its input has another shape.
    """
    if not isinstance(model, keras.Model):
        raise UsageError(
            f"model: is a {type(model).__name__}; give a Keras model, or use mimic3tf.audit.model"
        )
    wanted = getattr(model, "input_shape", None)
    if isinstance(wanted, tuple) and (
        len(wanted) != x.ndim
        or any(size not in (None, given) for size, given in zip(wanted[1:], x.shape[1:], strict=True))
    ):
        raise UsageError(f"model: reads arrays of shape {wanted}, but x has shape {x.shape}")
