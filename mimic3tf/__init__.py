"""Can somebody who poisons a few percent of your ICU training data decide what your model says?

    cohort = mimic3tf.load_cohort("data/synthetic", "train")
    trigger = mimic3tf.generate_trigger(cohort, seed=1)
    run = mimic3tf.train("lr", data="data/synthetic", trigger=trigger, out="runs/lr")
    print(mimic3tf.attack(run, "data/synthetic").success)

Arrays: `values [N, T, C]` of N stays, T bins and C channels, `mask [N, T, C]` where measured, `labels [N]`.

Nothing is imported before it is used; TensorFlow starts when a victim is trained, read, attacked or audited.
After `import mimic3tf`, `keras.saving.load_model` reads the `victim.keras` of a run.
"""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mimic3tf.api import attack as attack
    from mimic3tf.api import audit as audit
    from mimic3tf.api import load_run as load_run
    from mimic3tf.api import train as train
    from mimic3tf.data.loading import load_cohort as load_cohort
    from mimic3tf.poisoning.exposures import poison as poison
    from mimic3tf.poisoning.trigger import Trigger as Trigger
    from mimic3tf.poisoning.trigger import generate_trigger as generate_trigger

__version__ = "0.1.0"
__all__ = [
    "Trigger",
    "attack",
    "audit",
    "generate_trigger",
    "load_cohort",
    "load_run",
    "poison",
    "train",
]
_MODULES = {
    "Trigger": "poisoning.trigger",
    "generate_trigger": "poisoning.trigger",
    "load_cohort": "data.loading",
    "poison": "poisoning.exposures",
}
"""Where a public name is; in `api` if not here."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'mimic3tf' has no attribute '{name}'")
    return getattr(import_module(f"mimic3tf.{_MODULES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _KerasImport:
    """Sees Keras being imported, once, and lets it know the victims' own layers.

    Keras cannot read a victim's file without them. The library for such a hook takes longer to import than
    all that happens before the program answers a signal.
    """

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """The loader that Keras has anyway, followed by the layers'."""
        if name != "keras":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_with_layers(module: ModuleType) -> None:
                sys.meta_path.remove(self)
                load(module)
                _register_layers()

            spec.loader.exec_module = load_with_layers  # type: ignore[method-assign]
        return spec


def _register_layers() -> None:
    """Import the victims' own layers, which then are registered with Keras.

    One of these modules may be the first that imports Keras, and is then half imported itself. So they may
    not import one another.
    """
    layers = import_module("mimic3tf.victims.layers")
    for module in iter_modules(layers.__path__, f"{layers.__name__}."):
        import_module(module.name)


if "keras" in sys.modules:
    _register_layers()
else:
    sys.meta_path.insert(0, _KerasImport())
