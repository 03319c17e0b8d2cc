"""Measures the memory of the workers whose host limits it, each with its descendants.

Nobody tells when a process grows, so it is looked at: every process of the machine, a few in each turn of the loop, because
only a process's parent is known and not its children. What is over its limit is then measured exactly, and told to the table.
Decides nothing.

How often follows from what it costs: a round each `INTERVAL` seconds, or less often when there is so much to look at that it
would take more than `SHARE` of the supervisor's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import psutil

from .proc import Stat, read_stat
from .worker import WorkerHandle

INTERVAL = 0.25
"""Seconds between the starts of two rounds."""
SHARE = 0.02
"""Of the supervisor's time, at most."""
SLICE = 32
"""Processes looked at in one turn: half a millisecond."""


class MemoryWatch:
    """Looks at all workers again and again, once started."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        workers: Mapping[int, WorkerHandle],
        on_over: Callable[[int, int], None],
    ) -> None:
        """`workers` are those that live now; `on_over(number, bytes)` is told of one that is over its limit."""
        self._loop = loop
        self._workers = workers
        self._on_over = on_over
        self._timer: asyncio.TimerHandle | None = None
        self._started = 0.0
        self._left: list[str] = []
        """Of this round: the processes to be looked at."""
        self._found: dict[int, Stat] = {}

    def start(self) -> None:
        """Look from now on, if any worker's memory is limited."""
        if self._timer is None:
            self._timer = self._loop.call_later(INTERVAL, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """One turn: begin a round, or go on with it."""
        before = time.thread_time()
        if not self._left:
            self._begin()
        for name in self._left[-SLICE:]:
            if stat := read_stat(name):
                self._found[int(name)] = stat
        del self._left[-SLICE:]
        if not self._left:
            self._judge()
        pause = (time.thread_time() - before) * (1 / SHARE - 1)
        if not self._left:
            pause = max(pause, self._started + INTERVAL - self._loop.time())
        self._timer = self._loop.call_later(pause, self._look)

    def _begin(self) -> None:
        self._started = self._loop.time()
        self._found.clear()
        if any(self._watched()):
            try:
                self._left = [name for name in os.listdir("/proc") if name.isdigit()]
            except OSError:  # no descriptor to spare: next time
                self._left = []

    def _watched(self) -> Iterator[tuple[int, int, int]]:
        """Every worker whose host limits memory: its number, os_pid and limit."""
        for handle in self._workers.values():
            if handle.memory is not None and handle.child is not None:
                yield handle.number, handle.child.os_pid, handle.memory

    def _judge(self) -> None:
        children: dict[int, list[int]] = {}
        for os_pid, stat in self._found.items():
            children.setdefault(stat.parent, []).append(os_pid)
        over = []
        for number, os_pid, limit in self._watched():
            tree = [os_pid]
            for member in tree:
                tree += children.get(member, ())
            if sum(self._found[member].resident for member in tree if member in self._found) > limit:
                over.append((number, [member for member in tree if self._still_is(member)]))
        for number, tree in over:
            self._on_over(number, memory_of(tree))

    def _still_is(self, os_pid: int) -> bool:
        """Whether this is the process that was looked at: the number could be another's by now."""
        before, now = self._found.get(os_pid), read_stat(os_pid)
        return before is not None and now is not None and before.parent == now.parent


def memory_of(os_pids: Iterable[int]) -> int:
    """Return the bytes that these processes have resident. What several share counts once.

    That is the RSS of one process, and of several the sum of their PSS, which costs a hundred times as much to know.
    """
    processes, total = [], 0
    for os_pid in os_pids:
        with contextlib.suppress(psutil.Error):
            processes.append(psutil.Process(os_pid))
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            total += process.memory_info().rss if len(processes) == 1 else _proportional(process)
    return total


def _proportional(process: psutil.Process) -> int:
    try:
        proportional: int = process.memory_full_info().pss
    except psutil.AccessDenied:  # of another user, and we may not trace: then what it shares counts for each
        proportional = process.memory_info().rss
    return proportional
