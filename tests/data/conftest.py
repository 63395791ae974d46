"""The benchmarks' results for four tasks."""

from __future__ import annotations

import pytest
from golden_tasks import FIXTURES, SHARED, Golden, at_hand, unpack


@pytest.fixture(scope="session", params=["synthetic", "mimic-iii-demo"])
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """Results for invented stays, and for stays of the MIMIC-III demo where they are at hand."""
    folder = tmp_path_factory.mktemp("golden")
    if request.param == "synthetic":
        root = FIXTURES / "synthetic"
        return Golden(root, unpack(root, "data.tar.xz", folder), demo=False)
    return Golden(at_hand(SHARED), unpack(SHARED, "series.tar.xz", folder), demo=True)
