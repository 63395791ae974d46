"""Victims of one's own: models that a function of the user's code builds.

A name says where the function is: `package.module:function`, found among the installed packages and then in
the current directory, or `path/to/file.py:function`. The function is one of

- `build(input_shape, head)`, which returns an untrained Keras model, as the victims of this folder do. An
  attribute of the function or a constant of its module says what it reads: `READS = "grid"` or "features".
- `make()`, which returns an unfitted estimator of scikit-learn; it reads features.

To look up a function runs its module. Only the user may name one: see `training.run_files.check_run`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mimic3tf.errors import UsageError, near, near_path

if TYPE_CHECKING:
    import keras

    from mimic3tf.tasks.targets import Head

FORMS = "package.module:function or path/to/file.py:function"
MAIN = "__main__"
"""Module of a function that a notebook or a script defines."""


def is_own(name: str) -> bool:
    """Tell whether a victim's name is that of a function."""
    return ":" in name


def full_name(name: str) -> str:
    """Return the name of a function with the whole path of its file. This runs no code.

    Raises:
        UsageError: it is no such name.
    """
    source, _, function = name.rpartition(":")
    if source.endswith(".py"):
        source = str(Path(source).resolve())
    elif not all(part.isidentifier() for part in source.split(".")):
        source = ""
    if not source or not all(part.isidentifier() for part in function.split(".")):
        raise UsageError(f"'{name}': names no function; write {FORMS}")
    return f"{source}:{function}"


def short_name(name: str) -> str:
    """Return the name of a function without the folders of its file."""
    return name.rpartition("/")[2]


def folder_name(name: str) -> str:
    """Return a name for a folder, which differs for functions of one name in other folders."""
    return (
        f"{re.sub('[^A-Za-z0-9_.]', '-', short_name(name))}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    )


def name_of(function: Callable[..., Any]) -> str:
    """Return the name by which a function is found again.

    Raises:
        UsageError: it is not found again, because it stands within a function or has no name.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    file = getattr(sys.modules.get(MAIN), "__file__", None) if module == MAIN else None
    named = f"{Path(file).resolve() if file else module}:{name}"
    try:
        found = _attribute(sys.modules[str(module)], name) if callable(function) else None
    except (LookupError, AttributeError):
        found = None
    if found is not function or found is None:
        raise UsageError(
            f"model: is {function!r}; give the name of a victim, or a function with a name at the top of a "
            "module, script or notebook, by which a run can find it again"
        )
    return named


def sha256_of(name: str) -> str:
    """Return the SHA-256 of the file that holds a function, or of the text of a function in a notebook.

    This runs no code of the file.

    Raises:
        UsageError: there is no such file or module.
    """
    source, _, function = name.rpartition(":")
    if source == MAIN:
        try:
            text = inspect.getsource(_attribute(sys.modules[MAIN], function))
        except (AttributeError, TypeError, OSError):
            raise UsageError(
                f"'{name}': no such function in this notebook or script; run the cell that defines it"
            ) from None
        return hashlib.sha256(text.encode()).hexdigest()
    file = Path(source) if source.endswith(".py") else _file_of(name, source)
    if not file.is_file():
        raise UsageError(f"'{name}': no such file{near_path(file)}")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _file_of(name: str, module: str) -> Path:
    """Find the file of a module. `importlib.util.find_spec` would run the packages around it."""
    _search_in(Path.cwd())
    parts = module.split(".")
    spec, path = None, None
    for length in range(1, len(parts) + 1):
        part = ".".join(parts[:length])
        loaded = getattr(sys.modules.get(part), "__spec__", None)
        if loaded is not None:
            spec = loaded
        elif path is None:
            spec = importlib.util.find_spec(part)
        else:
            spec = importlib.machinery.PathFinder.find_spec(part, path)
        if spec is None:
            break
        path = list(spec.submodule_search_locations or [])
    if spec is None or not spec.has_location or spec.origin is None:
        meant = near(parts[0], (file.stem for file in Path.cwd().glob("*.py")))
        raise UsageError(
            f"'{name}': no module {module} with a file among the installed packages or in {Path.cwd()}{meant}"
        )
    return Path(spec.origin)


def _search_in(folder: Path) -> None:
    # At the end: no file of the folder may take the place of a library.
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def function_of(name: str) -> Callable[..., Any]:
    """Import the module of a function, and return the function.

    Raises:
        UsageError: the module cannot be imported, or has no such function.
    """
    source, _, function = name.rpartition(":")
    sha256_of(name)
    with naming_faults(name):
        module = _module_of_file(Path(source)) if source.endswith(".py") else importlib.import_module(source)
    try:
        found = _attribute(module, function)
    except AttributeError:
        known = [each for each, value in vars(module).items() if inspect.isroutine(value)]
        raise UsageError(f"'{name}': the module has no '{function}'{near(function, known)}") from None
    if not callable(found):
        raise UsageError(f"'{name}': is a {type(found).__name__} and no function")
    return found


def _module_of_file(path: Path) -> ModuleType:
    main = sys.modules.get(MAIN)
    if getattr(main, "__file__", None) and Path(str(main.__file__)).resolve() == path:  # type: ignore[union-attr]
        return main  # type: ignore[return-value]
    # A file that has changed is another module.
    name = f"mimic3tf_own_{hashlib.sha256(bytes(path) + path.read_bytes()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    _search_in(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _attribute(found: Any, name: str) -> Any:
    for part in name.split("."):
        found = getattr(found, part)
    return found


def constant_of(function: Callable[..., Any], name: str, default: str) -> str:
    """Return an attribute of a function, else the constant of its module, else a default."""
    module = sys.modules.get(function.__module__)
    return str(getattr(function, name, getattr(module, name, default)))


def makes_estimator(name: str, function: Callable[..., Any]) -> bool:
    """Tell by the parameters of a function whether it makes an estimator or builds a Keras model.

    Raises:
        UsageError: it takes neither nothing nor a shape and a head.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return False
    for arguments, estimator in (((), True), ((None, None), False)):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return estimator
    raise UsageError(
        f"'{name}': takes {signature}; write build(input_shape, head) for a Keras model, or make() without "
        "parameters for an estimator of scikit-learn"
    )


@contextmanager
def naming_faults(name: str) -> Iterator[None]:
    """Turn any error of the user's code into one line that names the code and its line.

    Raises:
        UsageError: the code failed.
    """
    try:
        yield
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        ours = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if not frame.filename.startswith((ours, "<frozen")) and "site-packages" not in frame.filename
        ]
        place = f", {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
        text = " ".join(str(error).split())
        raise UsageError(f"'{name}': fails{place}: {type(error).__name__}: {text}") from error


def build_model(
    name: str, build: Callable[..., Any], input_shape: tuple[int, ...], head: Head
) -> keras.Model:
    """Call the user's function, and refuse what is no model from these inputs to the logits of the head.

    Args:
        name: name of the function.
        build: the function.
        input_shape: shape of a stay's input, (T, D) or (42 * C,).
        head: makes the last layer.

    Returns:
        A functional model; it holds the layers of the user's model, or the user's model as one layer.

    Raises:
        UsageError: the function fails, or its model does not fit; says what is expected.
    """
    import keras

    with naming_faults(name):
        model = build(input_shape, head)
    if not isinstance(model, keras.Model):
        raise UsageError(f"'{name}': returns a {type(model).__name__}; return an untrained keras.Model")
    with naming_faults(name):
        if isinstance(model, keras.Sequential) or not getattr(model, "inputs", None):
            # Layers that nobody has called yet have no shapes.
            given = keras.Input(input_shape, name="inputs")
            model = keras.Model(given, model(given), name=model.name)
        # Keras saves the layers' settings with the weights: better to fail now than after the training.
        model.get_config()
    wanted = (None, *input_shape), head(keras.Input((1,)), name="probe").shape
    for what, found, expected in zip(
        ("input", "output"), (model.input_shape, model.output_shape), wanted, strict=True
    ):
        if found != expected:
            how = "keras.Input(input_shape)" if what == "input" else "head(hidden), which makes the logits"
            raise UsageError(
                f"'{name}': its model has an {what} of shape {found}, and not {expected}; use {how}"
            )
    return model
