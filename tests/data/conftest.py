"""The benchmarks' results for four tasks."""

from __future__ import annotations

import pytest
from golden_tasks import FIXTURES, SHARED, Golden, at_hand, unpack


@pytest.fixture(scope="session")
def invented(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """Results for invented stays."""
    root = FIXTURES / "synthetic"
    return Golden(root, unpack(root, "data.tar.xz", tmp_path_factory.mktemp("golden")), demo=False)


@pytest.fixture(scope="session")
def of_demo(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """Results for stays of the MIMIC-III demo, where they are at hand."""
    folder = tmp_path_factory.mktemp("golden")
    return Golden(at_hand(SHARED), unpack(SHARED, "series.tar.xz", folder), demo=True)


@pytest.fixture(scope="session", params=["invented", "of_demo"])
def golden(request: pytest.FixtureRequest) -> Golden:
    """Both, one after the other."""
    found: Golden = request.getfixturevalue(request.param)
    return found
