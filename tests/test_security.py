"""SECURITY.md claims nothing that no test holds."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_threat_names_a_test_that_exists() -> None:
    table = (ROOT / "SECURITY.md").read_text(encoding="utf-8").partition("| input | threat |")[2]
    _, _, *rows = table.strip().splitlines()
    assert len(rows) > 30
    for row in rows:
        found = re.fullmatch(r"\|[^|]+\|[^|]+\|[^|]+\| `(tests/[\w/]+\.py)::(test_\w+)` \|", row)
        assert found, row
        file, test = found.groups()
        assert f"\ndef {test}(" in (ROOT / file).read_text(encoding="utf-8"), row
