"""Private temporary folders: whatever was left in one is measured and removed."""

from __future__ import annotations

import fcntl
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest
from wsrelay.kernel.shell.disk import DESCRIPTORS, Disk
from wsrelay.kernel.shell.temporary import TemporaryFolders, make_base, remove_base
from wsrelay.kernel.wire.configuration import HostConfiguration


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TemporaryFolders]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = TemporaryFolders(make_base([HostConfiguration("a:b", private_tmp=True)]))
    made.make(1, None)
    yield made
    made.close()


def used(folder: str, *os_pids: int) -> int:
    disk = Disk(folder)
    for _ in disk.look(os_pids):
        pass
    return disk.used


def make_deep(folder: Path, name: str, depth: int) -> int:
    """Make folders of this name, one in the other. Returns a descriptor of the last."""
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=descriptor)
        inner = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    return descriptor


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
    for name in ("deep", "d" * 200):  # no path leads there, and no recursion
        os.close(make_deep(folder, name, 1500))
    folders.remove(1)
    folders.close()
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    remove_base(folders.base)  # by the guardian, once more


def test_what_is_left_is_removed_at_the_end(folders: TemporaryFolders, tmp_path: Path) -> None:
    (Path(folders.path(1)) / "file").write_text("x")
    folders.close()
    assert list(tmp_path.iterdir()) == []


def test_who_removes_what_is_old_leaves_them_alone(folders: TemporaryFolders) -> None:
    def remover_may() -> bool:
        """Whether systemd-tmpfiles would remove them for their age: it does not where it gets no lock."""
        descriptor = os.open(folders.base, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    assert not remover_may()
    assert os.path.isdir(folders.path(1))


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


@pytest.mark.parametrize(("name", "depth"), [("d" * 50, 90), ("d", 1900), ("d" * 200, 3000)])
def test_no_depth_hides_a_file(folders: TemporaryFolders, name: str, depth: int) -> None:  # S18: limit:disk
    folder = Path(folders.path(1))
    (folder / "beside").mkdir()
    (folder / "beside" / "file").write_bytes(b"x" * (1 << 20))
    descriptor = make_deep(folder, name, depth)
    try:
        for sibling in range(3):
            os.mkdir(f"{sibling}", dir_fd=descriptor)
        file = os.open("2/file", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor)
        os.write(file, b"x" * (1 << 20))
        os.close(file)
        folders_themselves = (depth + 8) * (8 << 10)  # no file system takes more for one that has two names
        assert 2 << 20 <= used(str(folder)) < (2 << 20) + folders_themselves
        before = len(os.listdir("/proc/self/fd"))
        assert descriptors_while_looking(str(folder)) - before <= DESCRIPTORS + 1
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        os.close(descriptor)
        folders.close()


def descriptors_while_looking(folder: str) -> int:
    """How many descriptors this process has at most, of all turns of a look that is then broken off."""
    look = Disk(folder).look(())
    most = 0
    for _, _ in zip(look, range(30), strict=False):
        most = max(most, len(os.listdir("/proc/self/fd")))
    return most


def test_a_folder_that_is_moved_while_the_walk_is_below_it_is_over_any_limit(folders: TemporaryFolders) -> None:
    folder = Path(folders.path(1))
    os.close(make_deep(folder, "d", 150))
    disk = Disk(str(folder))
    look = disk.look(())
    next(look)
    middle = "d/" * 50
    os.rename(folder / middle, folder / "moved")
    for _ in look:
        pass
    assert disk.used > 1 << 40
    assert used(str(folder)) < 1 << 24  # nobody moves anything: the truth
    folders.close()


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o400, 0o600])
def test_what_cannot_be_looked_at_is_over_any_limit(mode: int, tmp_path: Path) -> None:
    """As a user who may not read everything: root would see through it, and measure it."""
    folder = tmp_path / "folder"
    (folder / "closed").mkdir(parents=True)
    (folder / "closed" / "file").write_bytes(b"x" * (1 << 20))
    if os.geteuid() == 0:
        for path in (tmp_path, *tmp_path.parents):
            if path != Path("/"):
                path.chmod(path.stat().st_mode | 0o055)
        nobody = pwd.getpwnam("nobody").pw_uid
        for path in (folder, folder / "closed", folder / "closed" / "file"):
            os.chown(path, nobody, -1)
    (folder / "closed").chmod(mode)
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(nobody)
            os._exit(0 if used(str(folder)) > 1 << 40 else 1)
        finally:
            os._exit(2)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        (folder / "closed").chmod(0o700)
