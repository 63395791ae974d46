"""Every claim of SECURITY.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_threat_names_a_test_that_exists() -> None:
    lines = (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|") and not line.endswith(("| test |", "---|"))]
    assert len(rows) > 40
    for row in rows:
        found = re.fullmatch(r"\|.+\| `(tests/[\w/]+\.py)::(test_\w+)` \|", row)
        assert found, row
        file, test = found.groups()
        assert f"\ndef {test}(" in (ROOT / file).read_text(encoding="utf-8"), row
