"""Alarms: they ring after what one worker alone may have done."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from wsrelay.kernel.shell.alarms import Alarms
from wsrelay.kernel.shell.proc import last_task_started

MIB = 1 << 20


def test_many_processes_ring(tmp_path: Path) -> None:
    alarms = Alarms(str(tmp_path))
    alarms.set(20, None)
    alarms.note()
    children: list[int] = []
    try:
        while not alarms.ring():
            assert len(children) < 20
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
        alarms.note()
        assert alarms.are_set
        alarms.set(1_000_000, None)
        assert not alarms.ring()
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_what_was_there_before_is_no_sign(tmp_path: Path) -> None:
    # So many cannot be added while this looks: half of all that there are.
    last, files = last_task_started(), os.statvfs(tmp_path)
    alarms = Alarms(str(tmp_path))
    for processes, disk in ((last // 2, None), (None, files.f_bfree * files.f_frsize // 2)):
        alarms.set(processes, disk)
        assert alarms.are_set
        alarms.note()
        assert not alarms.ring()


def test_processes_that_ended_meanwhile_count(tmp_path: Path) -> None:
    """Those of one worker that are being killed do not hide those that another starts."""
    alarms = Alarms(str(tmp_path))
    alarms.set(20, None)
    alarms.note()
    for _ in range(20):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    assert alarms.ring()


def test_a_file_that_grows_rings(tmp_path: Path) -> None:
    alarms = Alarms(str(tmp_path))
    alarms.set(None, 16 * MIB)
    alarms.note()
    written = 0
    with (tmp_path / "much").open("wb", buffering=0) as file:
        while not alarms.ring():  # others may have removed files meanwhile
            assert written < 256
            file.write(bytes(MIB))
            written += 1
    alarms.set(None, 1 << 60)
    assert not alarms.ring()


def test_what_is_removed_does_not_hide_what_is_written(tmp_path: Path) -> None:
    alarms = Alarms(str(tmp_path))
    alarms.set(None, 16 * MIB)
    before = tmp_path / "before"
    before.write_bytes(bytes(64 * MIB))
    alarms.note()
    before.unlink()
    written = 0
    with (tmp_path / "much").open("wb", buffering=0) as file:
        while not alarms.ring():
            assert written < 48, "what was removed was set off against it"
            file.write(bytes(MIB))
            written += 1


def test_without_limits_nothing_rings(tmp_path: Path) -> None:
    alarms = Alarms("")
    alarms.set(None, 1)  # nobody has a folder
    alarms.note()
    assert not alarms.are_set
    assert not alarms.ring()
