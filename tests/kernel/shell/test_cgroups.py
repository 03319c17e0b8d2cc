"""The groups of workers, on a plain folder that looks like cgroup v2."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import wait_until
from wsrelay.kernel.core.enforcement import Enforcement
from wsrelay.kernel.shell.cgroups import Cgroups, find_delegated
from wsrelay.kernel.shell.confinement import Confinement
from wsrelay.kernel.shell.errors import StartError
from wsrelay.kernel.wire.configuration import Application, HostConfiguration

FILES = {
    "cgroup.procs": "", "cgroup.kill": "", "cgroup.subtree_control": "", "memory.max": "max", "memory.oom.group": "0",
    "pids.max": "", "cpu.max": "max 100000", "memory.events": "low 0\noom 0\noom_kill 0\n", "pids.events": "max 0\n",
}  # fmt: skip
SETTINGS = (
    ("memory.max", "1000"),
    ("memory.swap.max", "0"),
    ("memory.oom.group", "1"),
    ("pids.max", "8"),
    ("cpu.max", "50000 100000"),
)
OWN = "1:name=systemd:/old\n0::/app.service\n"


def make(folder: Path) -> None:
    """A new group, with the files that the kernel gives it."""
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_text(content)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make(tmp_path / "fs")
    (tmp_path / "fs" / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    make(tmp_path / "fs" / "app.service")
    (tmp_path / "fs" / "app.service" / "cgroup.controllers").write_text("memory pids\n")
    (tmp_path / "fs" / "app.service" / "cgroup.procs").write_text("10\n11\n")
    return tmp_path / "fs"


def remove(folder: Path) -> None:
    """Remove a group, which takes that nobody is in it."""
    if (folder / "cgroup.procs").read_text().strip():
        raise OSError(16, "Device or resource busy")
    shutil.rmtree(folder)


@pytest.fixture
def cgroups(root: Path) -> Cgroups:
    made = Cgroups(root / "app.service", {"memory", "pids"}, make=make, remove=remove)
    made.prepare()
    return made


def test_what_is_delegated(root: Path) -> None:
    assert find_delegated(OWN, {10, 11}, root) == (root / "app.service", {"memory", "pids"}, "")


@pytest.mark.parametrize(
    ("own", "ours", "words"),
    [
        ("1:name=systemd:/old\n", {10, 11}, "there is no cgroup v2"),
        ("0::/gone.service\n", {10, 11}, "No such file"),
        (OWN, {10}, "is shared with other processes"),
    ],
)
def test_what_is_not_delegated(root: Path, own: str, ours: set[int], words: str) -> None:
    folder, controllers, why = find_delegated(own, ours, root)
    assert (folder, controllers) == (None, frozenset())
    assert words in why


def test_the_group_is_emptied_before_it_is_divided(root: Path, cgroups: Cgroups) -> None:
    # A plain file keeps what was written last: the second of the two processes.
    assert (root / "app.service" / "main" / "cgroup.procs").read_text() == "11"
    assert (root / "app.service" / "cgroup.subtree_control").read_text() == "+memory +pids"


def test_groups_of_an_earlier_supervisor_are_removed(root: Path) -> None:
    make(root / "app.service" / "worker-7")
    Cgroups(root / "app.service", {"memory"}, make=make, remove=remove).prepare()
    assert not (root / "app.service" / "worker-7").exists()


def test_a_group_that_cannot_be_divided_is_an_error(root: Path) -> None:
    (root / "app.service" / "cgroup.subtree_control").unlink()
    with pytest.raises(StartError, match="cannot be divided"):
        Cgroups(root / "app.service", {"memory"}, make=make, remove=remove).prepare()


def test_the_group_of_upgraded_code_has_the_limits_of_now(root: Path, cgroups: Cgroups) -> None:
    folder, host = root / "app.service" / "worker-3", HostConfiguration("app:processes")
    confinement = Confinement(Application(), "")
    confinement.cgroups = cgroups
    confinement.expect(3, host, Enforcement(cgroup=(("memory.max", "1000"), ("pids.max", "8"))))
    confinement.take_in(3, 4711)
    for cgroup in ((("memory.max", "2000"), ("cpu.max", "50000 100000")), ()):
        confinement.renew(3, host, Enforcement(cgroup=cgroup))
        confinement.take_in(3, 4712)
        expected = {"memory.max": "max", "pids.max": "max", "cpu.max": "max"} | dict(cgroup)
        for name, value in expected.items():  # a plain file keeps the end of what was longer
            assert (folder / name).read_text().startswith(value), name
        assert (folder / "cgroup.procs").read_text() == "4712"


def test_the_life_of_a_group(root: Path, cgroups: Cgroups) -> None:
    folder = root / "app.service" / "worker-3"
    cgroups.put(3, 4711, SETTINGS)  # memory.swap.max is not in every kernel
    assert [(folder / name).read_text() for name in ("memory.max", "memory.oom.group", "pids.max", "cpu.max", "cgroup.procs")] == [
        "1000", "1", "8", "50000 100000", "4711",
    ]  # fmt: skip
    assert not cgroups.was_out_of_memory(3)
    assert not cgroups.refused_forks(3)
    (folder / "memory.events").write_text("low 0\noom 1\noom_kill 3\noom_group_kill 1\n")
    (folder / "pids.events").write_text("max 12\n")
    assert cgroups.was_out_of_memory(3)
    assert cgroups.refused_forks(3)
    (folder / "pids.peak").write_text("7\n")
    assert not cgroups.refused_forks(3), "it was never full: another group has refused them"
    (folder / "pids.peak").write_text("8\n")
    assert cgroups.refused_forks(3)
    cgroups.retire(3)
    assert (folder / "cgroup.kill").read_text() == "1"
    assert cgroups.tidy(), "somebody is in it still"
    (folder / "cgroup.procs").write_text("")
    assert not cgroups.tidy()
    assert not folder.exists()


@contextlib.contextmanager
def real_group() -> Iterator[Path]:
    """A group of the real hierarchy, if there is one that may be divided; controllers it may have none."""
    lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    for place in [line[1] for line in lines if line[2] == "cgroup2"]:
        folder = Path(place, f"wsrelay-test-{os.getpid()}")
        with contextlib.suppress(OSError):
            folder.mkdir()
            break
    else:
        pytest.skip("there is no cgroup v2 that may be divided")
    try:
        yield folder
    finally:
        for inner in [*folder.glob("*/"), folder]:
            wait_until(lambda inner=inner: not (inner / "cgroup.procs").read_text())
            inner.rmdir()


def test_killing_a_real_group_leaves_nobody() -> None:
    with real_group() as folder:
        cgroups = Cgroups(folder, ())
        cgroups.prepare()
        script = (
            "import os, signal\nos.read(0, 1)\nos.fork()\nos.fork()\nos.setsid()\nos.write(1, b'x')\nsignal.pause()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            cgroups.put(3, process.pid, ())
            process.stdin.write(b"x")
            process.stdin.flush()
            inside = folder / "worker-3" / "cgroup.procs"
            wait_until(lambda: len(inside.read_text().split()) == 4)
            cgroups.kill(3)
            assert process.wait(timeout=30) == -signal.SIGKILL
        wait_until(lambda: not inside.read_text())
        cgroups.retire(3)
        assert not cgroups.tidy()
        assert not inside.exists()


def test_a_real_group_goes_with_its_worker_and_with_what_that_has_made_in_it() -> None:
    with real_group() as folder:
        cgroups = Cgroups(folder, ())
        cgroups.prepare()
        with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
            cgroups.put(3, process.pid, ())
            (folder / "worker-3" / "made" / "by" / "the-worker").mkdir(parents=True)
            process.kill()
        cgroups.retire(3)  # its death may be nobody's burial, if it was not born yet: nothing else removes it then
        assert not (folder / "worker-3").exists()
        (folder / "worker-4" / "left-by-an-earlier-supervisor").mkdir(parents=True)
        cgroups.prepare()
        assert not (folder / "worker-4").exists()


def test_a_limit_that_cannot_be_written_is_an_error(cgroups: Cgroups) -> None:
    with pytest.raises(OSError, match=r"memory\.high"):
        cgroups.put(3, 4711, (("memory.high", "1"),))
