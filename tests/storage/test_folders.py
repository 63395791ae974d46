from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from mimic3tf.errors import UsageError
from mimic3tf.storage.folders import check_new_directory, claimed, scratch_folder


def test_a_claim_is_refused_while_it_lasts(tmp_path: Path) -> None:
    with claimed(tmp_path / "a"), pytest.raises(UsageError, match="another process"), claimed(tmp_path / "a"):
        pass
    with claimed(tmp_path / "a"):
        (tmp_path / "a" / "file").touch()
    assert (tmp_path / "a" / "file").exists()


def test_a_folder_that_stays_empty_is_removed(tmp_path: Path) -> None:
    with claimed(tmp_path / "a"):
        assert (tmp_path / "a").is_dir()
    assert not (tmp_path / "a").exists()


def test_scratch_folders_of_the_dead_go_and_of_the_living_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dead, other = tmp_path / "a[1].partial-dead", tmp_path / "b.partial-other"
    for folder in (dead, other):
        folder.mkdir()
        (folder / "file").touch()
    (tmp_path / "a[1].partial-link").symlink_to(other)
    with scratch_folder(tmp_path, "a[1]") as first, scratch_folder(tmp_path, "a[1]") as second:
        assert first != second
        assert first.is_dir()
        assert not dead.exists()
    assert not first.exists()
    assert not second.exists()
    assert (other / "file").exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert str(dead) in line


def test_the_directory_one_is_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for here in (Path(), tmp_path):
        with pytest.raises(UsageError, match="is the directory you are in; name a new directory inside it"):
            check_new_directory(here)
    check_new_directory(Path("new"))


def test_a_second_process_is_refused_where_a_folder_is_for_one_alone(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, "a") as first:
        with (
            pytest.raises(UsageError, match="another run works there"),
            scratch_folder(tmp_path, "a", alone=True),
        ):
            pass
        assert first.is_dir()


def test_without_locks_a_scratch_folder_stays_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    left = tmp_path / "a.partial-left behind"
    left.mkdir()
    with scratch_folder(tmp_path, "a", alone=True) as scratch:
        assert scratch.is_dir()
    assert list(tmp_path.iterdir()) == [left]
    assert f"rm -r '{left}'" in capsys.readouterr().err
