"""Start TensorFlow without its start-up notes."""

from __future__ import annotations

import logging
import os
import sys
import tempfile

from rich.console import Console

from mimic3tf.errors import UsageError


def start_tensorflow(cores: int | None = None) -> None:
    """Import TensorFlow, behind a spinner, and keep what it prints meanwhile from the terminal.

    Its libraries write notes about processors and drivers straight to the process' standard error, which no
    setting silences. They are shown after all if the import fails.

    Args:
        cores: cores to use, by one of several processes; all of the machine's if not given.

    Raises:
        UsageError: KERAS_BACKEND names another backend.
    """
    backend = os.environ.get("KERAS_BACKEND")
    if backend not in (None, "", "tensorflow"):
        raise UsageError(
            f"KERAS_BACKEND is '{backend}': mimic3tf runs on TensorFlow; type: unset KERAS_BACKEND"
        )
    # Before Keras is imported: the user's keras.json may name another backend.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if cores:
        # Otherwise the first process takes all memory of a GPU that several share.
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    fresh = "tensorflow" not in sys.modules
    sys.stderr.flush()
    with tempfile.TemporaryFile() as notes, os.fdopen(os.dup(2), "w") as terminal:
        os.dup2(notes.fileno(), 2)
        try:
            with Console(file=terminal).status("Starting TensorFlow ..."):
                import keras
                import tensorflow as tf

                # What keras.json may say otherwise: results must not depend on it.
                keras.config.set_floatx("float32")
                keras.config.set_epsilon(1e-7)
                keras.config.set_image_data_format("channels_last")
                keras.config.set_dtype_policy("float32")
                # Every victim of a sweep or an audit is traced anew, of which it would warn each time.
                tf.get_logger().setLevel(logging.ERROR)
                if not tf.config.list_physical_devices("GPU") and fresh:
                    # One operation a core: victims this small lose more by sharing an operation out.
                    # TensorFlow takes no such setting once it has started.
                    tf.config.threading.set_intra_op_parallelism_threads(1)
                    if cores:
                        tf.config.threading.set_inter_op_parallelism_threads(cores)
        except Exception:
            notes.seek(0)
            terminal.write(notes.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(terminal.fileno(), 2)
