from __future__ import annotations

import pytest
from invented_sweep import Invented


@pytest.fixture(scope="session")
def invented() -> type[Invented]:
    return Invented
