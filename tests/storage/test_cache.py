from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mimic3tf.storage.cache import clear_caches, list_caches, write_cache

NAME = "0123456789abcdef"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all caches, with one cache."""
    monkeypatch.setenv("MIMIC3TF_CACHE", str(tmp_path / "caches"))
    write_cache(tmp_path / "caches" / NAME, "state", {"values": np.zeros(3)}, {"data": "here"})
    return tmp_path / "caches"


def test_only_caches_are_listed_and_removed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "meta.json").touch()
    (folder / "f").mkdir()
    (folder / "f" / "meta.json").write_text("{}")
    (folder / "f" / "thesis.txt").touch()
    (folder / ("a" * 16)).symlink_to(tmp_path / "elsewhere")
    assert [(cache.name, notes["data"]) for cache, notes, _ in list_caches()] == [(NAME, "here")]
    assert clear_caches() == 1
    assert not (folder / NAME).exists()
    assert (folder / "f" / "thesis.txt").exists()
    assert (tmp_path / "elsewhere" / "meta.json").exists()


def test_a_cache_that_a_killed_process_left_half_made_is_removed(folder: Path) -> None:
    half, other = folder / f"{NAME}.partial-x", folder / "notes.partial-x"
    for left in (half, other):
        (left / "whole").mkdir(parents=True)
        (left / "whole" / "values.npy").touch()
    assert clear_caches() == 1
    assert not half.exists()
    assert other.exists()


@pytest.mark.parametrize("content", ["", "[1, 2]", "{"])
def test_a_damaged_cache_is_listed_and_removed(folder: Path, content: str) -> None:
    (folder / NAME / "meta.json").write_text(content)
    assert [notes for _, notes, _ in list_caches()] == [{}]
    assert clear_caches() == 1
