"""Can somebody who poisons a few percent of your ICU training data decide what your model says?

An example::

    cohort = mimic3tf.load_cohort("data/synthetic", "train")
    trigger = mimic3tf.generate_trigger(cohort, seed=1)
    run = mimic3tf.train("lr", data="data/synthetic", trigger=trigger, out="runs/lr")
    print(mimic3tf.attack(run, "data/synthetic").success)

Arrays: `values [N, T, C]` of N stays, T bins and C channels, `mask [N, T, C]` where measured, `labels [N]`.

Modules are imported only when they are used. TensorFlow starts when a victim is trained, read, attacked or
audited. After `import mimic3tf`, `keras.saving.load_model` reads the `victim.keras` of a run.
"""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mimic3tf import audit as audit
    from mimic3tf.api import attack as attack
    from mimic3tf.api import load_run as load_run
    from mimic3tf.api import train as train
    from mimic3tf.data.arrays import cohort_of_arrays as cohort_of_arrays
    from mimic3tf.data.loading import load_cohort as load_cohort
    from mimic3tf.poisoning.arrays import poison_arrays as poison_arrays
    from mimic3tf.poisoning.exposures import poison as poison
    from mimic3tf.poisoning.trigger import Trigger as Trigger
    from mimic3tf.poisoning.trigger import generate_trigger as generate_trigger

__version__ = "0.1.0"
__all__ = [
    "Trigger",
    "attack",
    "audit",
    "cohort_of_arrays",
    "generate_trigger",
    "load_cohort",
    "load_run",
    "poison",
    "poison_arrays",
    "train",
]
_MODULES = {
    "Trigger": "poisoning.trigger",
    "cohort_of_arrays": "data.arrays",
    "generate_trigger": "poisoning.trigger",
    "load_cohort": "data.loading",
    "poison": "poisoning.exposures",
    "poison_arrays": "poisoning.arrays",
}
"""Module of each public name; names that are not listed are in `api`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'mimic3tf' has no attribute '{name}'")
    if name == "audit":
        return import_module("mimic3tf.audit")
    return getattr(import_module(f"mimic3tf.{_MODULES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _KerasImport:
    """Import hook that registers the layers of the victims when Keras is first imported.

    Without these layers, Keras cannot read the file of a victim. A library for import hooks is not used,
    because its import takes longer than everything else before the program handles signals.
    """

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Find the module spec of Keras, and make its loader import the layers afterwards."""
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
    """Import the layers of the victims, which registers them with Keras.

    If one of these modules is the first that imports Keras, this function runs while that module is only
    partly imported. So no such module may import another one.
    """
    layers = import_module("mimic3tf.victims.layers")
    for module in iter_modules(layers.__path__, f"{layers.__name__}."):
        import_module(module.name)


if "keras" in sys.modules:
    _register_layers()
else:
    sys.meta_path.insert(0, _KerasImport())
