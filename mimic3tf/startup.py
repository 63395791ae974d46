"""Start TensorFlow, and hide the notes that it prints at its start."""

from __future__ import annotations

import logging
import os
import sys
import tempfile

from rich.console import Console

from mimic3tf.errors import UsageError


def start_tensorflow(cores: int | None = None) -> None:
    """Import TensorFlow, show a spinner meanwhile, and hide what TensorFlow prints.

    Its libraries write notes about processors and drivers directly to the standard error of the process, and
    no setting silences them. The notes are shown only if the import fails.

    Args:
        cores: number of cores to use, if this is one of several processes; all cores if not given.

    Raises:
        UsageError: KERAS_BACKEND names another backend.
    """
    backend = os.environ.get("KERAS_BACKEND")
    if backend not in (None, "", "tensorflow"):
        raise UsageError(
            f"KERAS_BACKEND is '{backend}': mimic3tf runs on TensorFlow; type: unset KERAS_BACKEND"
        )
    # This comes before Keras is imported, because the user's keras.json may name another backend.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if cores:
        # Otherwise the first of several processes takes all memory of their GPU.
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

                # The user's keras.json may set these four; results must not depend on it.
                keras.config.set_floatx("float32")
                keras.config.set_epsilon(1e-7)
                keras.config.set_image_data_format("channels_last")
                keras.config.set_dtype_policy("float32")
                # TensorFlow would warn each time that it traces a victim of a sweep or an audit anew.
                tf.get_logger().setLevel(logging.ERROR)
                if not tf.config.list_physical_devices("GPU") and fresh:
                    # Each operation gets one core: victims this small lose time if several cores share one.
                    # TensorFlow accepts this setting only before it has started.
                    tf.config.threading.set_intra_op_parallelism_threads(1)
                    if cores:
                        tf.config.threading.set_inter_op_parallelism_threads(cores)
        except Exception:
            notes.seek(0)
            terminal.write(notes.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(terminal.fileno(), 2)
