"""Private temporary folders: whatever was left in one is measured and removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from wsrelay.kernel.shell.disk import Disk
from wsrelay.kernel.shell.temporary import TemporaryFolders, make_base, remove_base
from wsrelay.kernel.wire.configuration import HostConfiguration


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TemporaryFolders:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = TemporaryFolders(make_base([HostConfiguration("a:b", private_tmp=True)]))
    made.make(1, None)
    return made


def used(folder: str, *os_pids: int) -> int:
    disk = Disk(folder)
    for _ in disk.look(os_pids):
        pass
    return disk.used


def test_none_is_made_for_who_wants_none() -> None:
    assert make_base([HostConfiguration("a:b")]) == ""
    TemporaryFolders("").close()


def test_everything_is_removed_and_no_link_is_followed(folders: TemporaryFolders, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    folder = Path(folders.path(1))
    (folder / "link").symlink_to(tmp_path)
    (folder / "closed" / "inner").mkdir(parents=True)
    (folder / "closed" / "inner" / "file").write_text("x")
    (folder / "closed").chmod(0)
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(folder)
        for _ in range(1500):  # no path leads there, and no recursion
            os.mkdir("deep")
            os.chdir("deep")
    finally:
        os.chdir(here)
        os.close(here)
    folders.remove(1)
    folders.close()
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    remove_base(folders.base)  # by the guardian, once more


def test_what_is_left_is_removed_at_the_end(folders: TemporaryFolders, tmp_path: Path) -> None:
    (Path(folders.path(1)) / "file").write_text("x")
    folders.close()
    assert list(tmp_path.iterdir()) == []


def test_measuring(folders: TemporaryFolders, tmp_path: Path) -> None:
    folder = Path(folders.path(1))
    (tmp_path / "elsewhere").write_bytes(b"x" * (4 << 20))
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "file").write_bytes(b"x" * (1 << 20))
    os.link(folder / "file", folder / "again")
    assert 1 << 20 <= used(str(folder)) < 2 << 20
    with open(folder / "deleted", "wb") as file:
        file.write(b"x" * (1 << 20))
        file.flush()
        os.unlink(file.name)
        assert used(str(folder)) < 2 << 20
        assert used(str(folder), os.getpid()) >= 2 << 20
    (folder / "file").unlink()
    (folder / "again").unlink()
    for number in range(300):
        (folder / str(number)).touch()
    assert used(str(folder)) >= 300 << 10
    folders.close()
