from __future__ import annotations

import pytest
from invented_sweep import Invented
from invented_trigger import bedside_trigger as make_trigger

from mimic3tf.poisoning.trigger import Trigger


@pytest.fixture(scope="session")
def invented() -> type[Invented]:
    return Invented


@pytest.fixture
def bedside_trigger() -> Trigger:
    return make_trigger()
