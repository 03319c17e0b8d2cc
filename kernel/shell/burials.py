"""The burial of workers: from the moment that the kernel says that one is dead until nothing of it is left.

Owns the order of the steps, which is S2, S14 and S16, and who is dead and not yet reaped. What follows from a death is decided by
the table.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, Protocol

from ..core.effects import Effect
from ..core.endings import WaitStatus
from ..core.table import ProcessTable
from ..wire import messages as m
from ..wire.configuration import Application
from ..wire.failpoints import failpoint
from .children import Child
from .confinement import Confinement
from .gateway import Gateway
from .sweeping import Sweeper
from .timers import Timers
from .worker import WorkerHandle

SWEEP_DELAY = 0.02
"""Seconds from a death that has been told to the sweep that is sure to find all that was left behind. That reads all of /proc, 1 ms
for a hundred processes, and whatever the death makes others do, as starting the next process, need not wait for it."""

TIDY_DELAY = 0.25
"""Seconds between two attempts to remove a dead worker's cgroup, while its descendants die in there."""


class Runtime(Protocol):
    """What a burial needs of the supervisor."""

    loop: asyncio.AbstractEventLoop
    application: Application
    table: ProcessTable
    gateway: Gateway
    workers: dict[int, WorkerHandle]
    confinement: Confinement
    sweeper: Sweeper
    timers: Timers

    def perform(self, effects: list[Effect]) -> None: ...

    def end_turn(self) -> None: ...

    def take_from_worker(self, handle: WorkerHandle, records: list[tuple[Any, ...]]) -> None:
        """Tell the table what a worker wrote."""


class Burials:
    """All burials of this boot."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._dead: list[tuple[WorkerHandle, Child, WaitStatus]] = []
        """Workers that are dead and not yet buried."""
        self._told: list[tuple[WorkerHandle, Child]] = []
        """Those whose death has been told, and that are not yet reaped."""
        self._unreaped: set[int] = set()
        """The os_pids of those whose burial is under way."""
        self._scheduled = False
        self._tidying = False
        """Whether a cgroup could not be removed, and it will be tried again."""

    def unreaped(self) -> Iterable[int]:
        """The os_pids of workers that are nobody's any more, and not yet anybody else's."""
        return self._unreaped

    def worker_died(self, handle: WorkerHandle) -> None:
        """A worker's pidfd is readable. Those that die together are buried together."""
        runtime, child = self._runtime, handle.child
        if child is None or (status := child.status()) is None:
            return
        failpoint("death.noticed")
        runtime.loop.remove_reader(child.pidfd)
        runtime.timers.worker_ended(handle.number)
        if runtime.application.gateway.is_observed and handle.successor is None:
            runtime.gateway.send(m.DeathNoticed(handle.number, time.monotonic()))
        if not self._dead:
            runtime.loop.call_soon(self._bury_the_dead)
        self._dead.append((handle, child, status))

    def _bury_the_dead(self) -> None:
        """What the dead have left behind is killed before anything is read or told, as far as a quick sweep finds it."""
        runtime = self._runtime
        dead, self._dead = self._dead, []
        self._unreaped.update(child.os_pid for _, child, _ in dead)
        for handle, child, _ in dead:
            runtime.confinement.kill(handle.number)
            child.kill_group()
        runtime.sweeper.sweep(quick=True)
        upgraded = False
        for handle, _, status in dead:
            upgraded |= self._commit(handle, status)
        self._told += ((handle, child) for handle, child, _ in dead)
        if upgraded:  # new code must not run beside what the old has left (S35)
            self._finish()
            failpoint("death.published")
            return
        runtime.end_turn()
        failpoint("death.published")
        if not self._scheduled:
            self._scheduled = True
            runtime.loop.call_later(SWEEP_DELAY, self._finish_later)

    def _finish_later(self) -> None:
        self._scheduled = False
        self._finish()

    def _finish(self) -> None:
        """Kill the rest of what was left behind, and then let the numbers of the dead go."""
        told, self._told = self._told, []
        self._runtime.sweeper.sweep()
        for handle, child in told:
            self._reap(handle, child)
        if not self._tidying:
            self._tidy()
        self._runtime.end_turn()

    def _tidy(self) -> None:
        """Remove the cgroups of the dead."""
        if left := self._runtime.confinement.tidy():
            self._runtime.loop.call_later(TIDY_DELAY, self._tidy)
        self._tidying = left

    def _commit(self, handle: WorkerHandle, status: WaitStatus) -> bool:
        """Take a dead worker's last words, and tell the table. Returns whether that was only the end of its old code."""
        runtime = self._runtime
        runtime.take_from_worker(handle, handle.channel.drain())
        failpoint("death.drained")
        status = status._replace(
            out_of_memory=runtime.confinement.out_of_memory(handle.number),
            refused_forks=runtime.confinement.refused_forks(handle.number),
        )
        runtime.perform(runtime.table.worker_exited(handle.number, status, runtime.loop.time()))
        failpoint("death.committed")
        upgraded = runtime.workers[handle.number] is not handle
        if not upgraded:
            del runtime.workers[handle.number]
            if handle.successor is not None:
                handle.successor.close()
        handle.close()
        return upgraded

    def _reap(self, handle: WorkerHandle, child: Child) -> None:
        child.reap()
        self._unreaped.discard(child.os_pid)
        is_upgraded = handle.number in self._runtime.workers
        if not is_upgraded:  # new code has what the old had
            self._runtime.confinement.let_go(handle.number)
        failpoint("death.reaped")
        if is_upgraded:
            failpoint("upgrade.reaped")
