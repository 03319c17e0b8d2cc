"""Measures what the workers use whose host limits it: memory, OS processes, and their private temporary folders.

Nobody tells when a process grows or multiplies, so it is looked at: every process of the machine, a few in each turn of the
loop, because only a process's parent is known and not its children. What is over a limit is then told to the table. Decides
nothing but when to look.

How often follows from what it costs: a round each `INTERVAL` seconds, or less often when there is so much to look at that it
would take more than `SHARE` of the supervisor's time. When `alarms` ring, the next round is made without a pause: a worker that
forks or writes without end would outgrow a slow look, and what it has made by then costs others their time when it is taken
down. Such a round reads only of processes that are new, and of those of workers that are looked at, and leaves memory out, which may take
a millisecond for each process. That may take `ALARM_SHARE` of the time: the signs are of the whole machine, and others start processes and write files too.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from ..core.enforcement import Enforcement
from ..wire.configuration import HostConfiguration
from .alarms import Alarms
from .cgroups import Cgroups
from .descendants import forget_ended, read_into, stop_descendants, trees
from .disk import Disk
from .memory import memory_of, unmapped_memory
from .proc import Stat, every_process, read_stat, shared_memory_of_machine
from .temporary import TemporaryFolders
from .worker import WorkerHandle

INTERVAL = 0.25
"""Seconds between the starts of two rounds."""
ALARM_INTERVAL = 0.02
"""Seconds between two looks at the alarms, where anything is limited that has one."""
SHARE = 0.02
"""Of the supervisor's time, at most."""
ALARM_SHARE = 0.2
"""Of the supervisor's time, at most, while alarms ring."""
SLICE = 32
"""Processes looked at in one turn: half a millisecond."""


class Usage(NamedTuple):
    """What one worker has with its descendants; 0 for what is not measured."""

    memory: int = 0
    """Bytes."""
    processes: int = 0
    """OS processes and threads."""
    disk: int = 0
    """Bytes."""


class Watched(NamedTuple):
    """What is to be looked at for a worker, as its host limited it when it was started."""

    memory: int | None
    processes: int | None
    disk: int | None
    forks: int | None
    """`limits.processes`, where the worker's cgroup says that it wanted one more."""


class UsageWatch:
    """Looks at all workers again and again, once started."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        watched: Mapping[int, Watched],
        workers: Mapping[int, WorkerHandle],
        folders: TemporaryFolders,
        cgroups: Cgroups | None,
        alarms: Alarms,
        on_over: Callable[[int, Usage], None],
    ) -> None:
        """`watched` are those to be looked at, by number, and `workers` those that live now; both are changed in place.
        `alarms` may ring of any of them. `on_over(number, usage)` is told of one that is over a limit."""
        self._loop = loop
        self._watched = watched
        self._workers = workers
        self._folders = folders
        self._cgroups = cgroups
        self._on_over = on_over
        self._timer: asyncio.TimerHandle | None = None
        self._round: Iterator[None] | None = None
        self._started = float("-inf")
        self._pause = 0.0
        self._hurry = False
        """Whether an alarm has rung, and the round that it asks for is not over."""
        self._hurried = 0.0
        """Seconds of work in that round."""
        self._whole = True
        """Whether the round looks at everything."""
        self._calm_until = float("-inf")
        """When the next round may be hurried."""
        self._alarms = alarms
        self._found: dict[int, Stat] = {}
        self._shared = 0
        """Bytes of memory that files take, of the whole machine: nobody's can be more."""

    def start(self, hosts: Iterable[Watched]) -> None:
        """Look from now on, if any of these hosts limits what is measured here. Called again after a reload: workers that live
        keep the limits they have."""
        every = [each for each in (*hosts, *self._watched.values()) if any(each)]
        self._alarms.set(
            min((each.processes for each in every if each.processes is not None), default=None),
            min((each.disk for each in every if each.disk is not None), default=None),
        )
        if every and self._timer is None:
            self._timer = self._loop.call_later(INTERVAL, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """One turn: begin a round, or go on with it."""
        before = time.thread_time()
        now = self._loop.time()
        if now >= self._calm_until and self._alarms.ring():
            self._hurry = True
        due = now >= self._started + INTERVAL + self._pause
        if self._round is None and (self._hurry or due):
            # Alarms may ring all the time, and memory must be looked at all the same: a round that is due is a whole one.
            if due:
                self._started, self._pause = now, 0.0
            self._whole = due
            self._alarms.note()
            self._round = self._look_at_all(hurried=not due)
        ended = self._round is not None and next(self._round, self) is self
        if ended:
            self._round = None
        cost = time.thread_time() - before
        rest = cost * (1 / SHARE - 1)
        if self._hurry:
            self._hurried += cost
        if self._round is not None:
            delay = 0.0 if self._hurry else rest
        else:
            if self._hurry:
                self._calm_until = self._loop.time() + self._hurried * (1 / ALARM_SHARE - 1)
                self._hurry, self._hurried = False, 0.0
            if ended and self._whole:  # and not by a mere look at the alarms
                self._pause = rest
            wait = max(0.0, self._started + INTERVAL + self._pause - self._loop.time())
            delay = min(wait, ALARM_INTERVAL) if self._alarms.are_set else wait
        self._timer = self._loop.call_later(delay, self._look)

    def _look_at_all(self, *, hurried: bool) -> Iterator[None]:
        """One round; each step is a turn. A `hurried` one goes by what the last has found, but for what is new."""
        watched = list(self._each_watched())
        if not watched:
            return
        if not hurried:
            self._found.clear()
        numbers: list[int] = []
        with contextlib.suppress(OSError):  # no descriptor to spare: next time
            numbers = every_process()
        forget_ended(self._found, numbers)
        ours = set(chain.from_iterable(self._trees(watched))) if hurried else frozenset()
        wanted = [number for number in numbers if number not in self._found or number in ours]
        for start in range(0, len(wanted), SLICE):
            read_into(self._found, wanted[start : start + SLICE])
            yield
        if not hurried and any(limits.memory is not None for _, limits in watched):
            self._shared = shared_memory_of_machine()
        for (handle, limits), tree in zip(watched, self._trees(watched), strict=True):
            if handle.child is None or self._workers.get(handle.number) is not handle:
                continue
            if not self._judge(handle, limits, tree):
                if limits.memory is not None and not hurried:
                    yield from self._judge_memory(handle, limits.memory, tree)
                if limits.disk is not None:
                    yield from self._look_at_disk(handle, limits.disk, tree)

    def _trees(self, watched: Iterable[tuple[WorkerHandle, Watched]]) -> list[list[int]]:
        """Each worker with its descendants, as far as they have been found."""
        roots = (0 if handle.child is None else handle.child.os_pid for handle, _ in watched)
        return trees(self._found, roots)

    def _each_watched(self) -> Iterator[tuple[WorkerHandle, Watched]]:
        """Every worker that is limited in something that is looked at."""
        for number, limits in self._watched.items():
            handle = self._workers.get(number)
            if handle is not None and handle.child is not None:
                yield handle, limits

    def _judge(self, handle: WorkerHandle, limits: Watched, tree: list[int]) -> bool:
        """Returns whether it has too many processes."""
        processes = sum(max(1, self._found[member].threads) for member in tree if member in self._found)
        if limits.processes is not None and processes > limits.processes:
            if handle.child is not None:
                # Or they would fork away from being killed one by one.
                stop_descendants(handle.child.os_pid, self._found)
            self._on_over(handle.number, Usage(processes=processes))
            return True
        if limits.forks is not None and self._cgroups is not None and self._cgroups.refused_forks(handle.number):
            self._on_over(handle.number, Usage(processes=limits.forks + 1))
            return True
        return False

    def _judge_memory(self, handle: WorkerHandle, limit: int, tree: list[int]) -> Iterator[None]:
        """The sum counts what is shared several times; what it has in files in memory is looked for where that matters."""
        resident = sum(self._found[member].resident for member in tree if member in self._found)
        if resident > limit:
            resident = memory_of(filter(self._still_is, tree))
        unmapped = 0
        if resident <= limit < resident + self._shared:
            unmapped = yield from unmapped_memory(filter(self._still_is, tree))
        if resident + unmapped > limit and self._workers.get(handle.number) is handle:
            self._on_over(handle.number, Usage(memory=resident + unmapped))

    def _look_at_disk(self, handle: WorkerHandle, limit: int, tree: list[int]) -> Iterator[None]:
        disk = Disk(self._folders.path(handle.number))
        for _ in disk.look(member for member in tree if self._still_is(member)):
            if disk.used > limit:
                break  # it is known, and who has made a million files is not to have a look at each
            yield
        if disk.used > limit and self._workers.get(handle.number) is handle:
            self._on_over(handle.number, Usage(disk=disk.used))

    def _still_is(self, os_pid: int) -> bool:
        """Whether this is the process that was looked at: the number could be another's by now."""
        before, now = self._found.get(os_pid), read_stat(os_pid)
        return before is not None and now is not None and before.started == now.started


def watched(host: HostConfiguration, enforcement: Enforcement) -> Watched:
    """Return what is to be looked at for the workers of a host."""
    limits, names = host.limits, enforcement.watched
    return Watched(
        memory=limits.memory if "memory" in names else None,
        processes=limits.processes if "processes" in names else None,
        disk=limits.disk if "disk" in names else None,
        forks=limits.processes if enforcement.counts_forks else None,
    )
