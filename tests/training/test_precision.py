from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from mimic3tf.config import Precision
from mimic3tf.training.precision import policy_for, resolve_precision


@pytest.mark.parametrize(
    ("capability", "policy"),
    [
        ((0, 0), "float32"),
        ((6, 1), "float32"),
        ((7, 0), "mixed_float16"),
        ((7, 5), "mixed_float16"),
        ((8, 0), "float32"),
        ((9, 0), "float32"),
        ((12, 0), "float32"),
    ],
)
def test_the_policy_is_the_fastest_on_the_hardware(capability: tuple[int, int], policy: str) -> None:
    assert policy_for(capability) == policy


def _pretend(patch: pytest.MonkeyPatch, gpus: list[str], details: dict[str, Any]) -> None:
    patch.setattr(tf.config, "list_physical_devices", lambda _: gpus)
    patch.setattr(tf.config.experimental, "get_device_details", lambda _: details)


def test_auto_on_a_cpu_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, [], {"compute_capability": (9, 0)})
    assert resolve_precision("auto") == "float32"


def test_auto_asks_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, ["gpu"], {"compute_capability": (9, 0)})
    assert resolve_precision("auto") == "float32"
    _pretend(monkeypatch, ["gpu"], {"compute_capability": (7, 5)})
    assert resolve_precision("auto") == "mixed_float16"


def test_auto_on_a_gpu_that_says_nothing_is_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, ["gpu"], {})
    assert resolve_precision("auto") == "float32"


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_a_named_policy_is_taken_whatever_the_hardware(
    monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    for gpus in ([], ["gpu"]):
        _pretend(monkeypatch, gpus, {"compute_capability": (9, 0)})
        assert resolve_precision(precision) == precision
