"""Alarms: they ring after what one worker alone may have done."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from wsrelay.kernel.shell.alarms import Alarms
from wsrelay.kernel.shell.proc import tasks_of_machine

MIB = 1 << 20


def test_many_processes_ring(tmp_path: Path) -> None:
    alarms = Alarms(str(tmp_path))
    alarms.set(20, None)
    alarms.note()
    children: list[int] = []
    try:
        while not alarms.ring():  # others may have ended meanwhile: the count is of the whole machine
            assert len(children) < 1_000
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
    tasks, files = tasks_of_machine(), os.statvfs(tmp_path)
    alarms = Alarms(str(tmp_path))
    for processes, disk in ((tasks // 2, None), (None, files.f_bfree * files.f_frsize // 2)):
        alarms.set(processes, disk)
        assert alarms.are_set
        alarms.note()
        assert not alarms.ring()


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


def test_without_limits_nothing_rings(tmp_path: Path) -> None:
    alarms = Alarms("")
    alarms.set(None, 1)  # nobody has a folder
    alarms.note()
    assert not alarms.are_set
    assert not alarms.ring()
