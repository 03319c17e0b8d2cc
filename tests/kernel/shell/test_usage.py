"""The usage of workers: when it is looked at, on a clock that the test turns. What is looked at are real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from wsrelay.kernel.shell.alarms import Alarms
from wsrelay.kernel.shell.attachment import Turn
from wsrelay.kernel.shell.children import Child
from wsrelay.kernel.shell.temporary import TemporaryFolders
from wsrelay.kernel.shell.usage import ALARM_SHARE, INTERVAL, SHARE, Usage, UsageWatch, Watched
from wsrelay.kernel.shell.worker import WorkerHandle
from wsrelay.kernel.wire.channel import channel_pair

MIB = 1 << 20
LIMIT = 64 * MIB
"""Of memory: more than a Python that does nothing has."""
WORK = 0.05
"""Seconds of CPU time that this process takes each time that it is told."""
LONG = 10.0
"""Seconds of the test's clock: many rounds, however long the pauses between them."""
WORKER = f"""
import os, signal, sys
hoard = []
for line in sys.stdin:
    if line == "grow\\n":
        hoard.append(b"x" * {2 * LIMIT})
    elif os.fork() == 0:
        signal.pause()
    print("done", flush=True)
"""


class Clock:
    """The part of an event loop that a watch uses. No time passes but what the test lets pass."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._next: tuple[float, Callable[[], None]] | None = None

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self._next = (self.now + delay, callback)

    def turn(self) -> None:
        """The next timer fires."""
        assert self._next is not None
        self.now, callback = self._next
        callback()


class Bell(Alarms):
    """Alarms that ring when the test says so."""

    def __init__(self, clock: Clock) -> None:
        super().__init__("")
        self._clock = clock
        self.rings = False
        self.least: tuple[int | None, int | None] | None = None
        self.rounds: list[float] = []
        """When each round began."""

    @property
    def are_set(self) -> bool:
        return True

    def set(self, processes: int | None, disk: int | None) -> None:
        self.least = processes, disk

    def note(self) -> None:
        self.rounds.append(self._clock.now)

    def ring(self) -> bool:
        return self.rings


class Scene:
    """A watch of one worker, which does what it is told."""

    def __init__(self, process: subprocess.Popen[str], handle: WorkerHandle, limits: Watched) -> None:
        self.process = process
        self.clock = Clock()
        self.bell = Bell(self.clock)
        self.told: list[Usage] = []
        folders = TemporaryFolders("")
        watched, workers = {handle.number: limits}, {handle.number: handle}
        self.watch = UsageWatch(cast(Any, self.clock), watched, workers, folders, None, self.bell, self._on_over)
        self.watch.start([])

    def _on_over(self, _: int, usage: Usage) -> None:
        self.told.append(usage)
        until = time.thread_time() + WORK
        while time.thread_time() < until:
            pass

    def order(self, what: str) -> None:
        """Have the worker do something, and wait until it has."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(what, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "done\n"

    def pass_time(self, seconds: float) -> None:
        """Let this time pass."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.turn()

    def wait_told(self) -> Usage:
        """Let time pass until the watch has told of the worker once more."""
        count, until = len(self.told), self.clock.now + LONG
        while len(self.told) == count:
            assert self.clock.now < until, "it is not looked at"
            self.clock.turn()
        return self.told[-1]

    def wait_round(self) -> float:
        """Let time pass until the next round has begun. Returns when that was."""
        count, until = len(self.bell.rounds), self.clock.now + LONG
        while len(self.bell.rounds) == count:
            assert self.clock.now < until, "no round begins"
            self.clock.turn()
        return self.bell.rounds[-1]


@pytest.fixture
def scene() -> Iterator[Callable[..., Scene]]:
    """Make the scene of a worker with these limits."""
    with contextlib.ExitStack() as stack:

        def make(**limits: Any) -> Scene:
            process = subprocess.Popen(
                [sys.executable, "-c", WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            stack.enter_context(process)
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
            ours, theirs = channel_pair()
            theirs.close()
            handle = WorkerHandle(cast(Any, None), Turn(), 1, "a:host", MIB, ours, *[lambda _: None] * 5)
            stack.callback(handle.channel.close)
            handle.child = Child(process.pid)
            stack.callback(os.close, handle.child.pidfd)
            unlimited = Watched(memory=None, processes=None, disk=None, forks=None)
            return Scene(process, handle, unlimited._replace(**limits))

        yield make


@pytest.mark.parametrize("rings", [False, True])
def test_memory_is_looked_at_whether_alarms_ring_or_not(scene: Callable[..., Scene], rings: bool) -> None:  # S18
    on = scene(memory=LIMIT)
    on.pass_time(LONG)
    on.bell.rings = rings
    on.pass_time(LONG)
    assert on.told == []
    on.order("grow")
    assert on.wait_told().memory > 2 * LIMIT


def test_after_a_round_it_rests_for_its_share(scene: Callable[..., Scene]) -> None:
    on = scene(memory=1)
    on.wait_told()
    began = on.bell.rounds[-1]
    assert on.wait_round() >= began + INTERVAL + WORK * (1 / SHARE - 1)


def test_alarms_hurry_a_round_without_memory(scene: Callable[..., Scene]) -> None:  # S18
    on = scene(memory=1, processes=3)
    assert on.wait_told().memory > 1
    due = on.bell.rounds[-1] + INTERVAL + WORK * (1 / SHARE - 1)
    on.bell.rings = True
    for _ in range(3):
        on.wait_round()
    for _ in range(3):
        on.order("fork")
    assert on.wait_told() == Usage(processes=4), "and its memory, which is over its limit too, was left out until now"
    assert on.clock.now < due
    told_at = on.clock.now
    assert on.wait_round() >= told_at + WORK * (1 / ALARM_SHARE - 1), "and alarms are not heard all the time"


def test_alarms_are_set_to_the_least_limits_of_hosts_and_of_those_that_live(scene: Callable[..., Scene]) -> None:
    on = scene(processes=5, disk=3 * MIB)
    assert on.bell.least == (5, 3 * MIB)
    on.watch.start([Watched(None, 7, 2 * MIB, None), Watched(LIMIT, None, None, None)])
    assert on.bell.least == (5, 2 * MIB)
