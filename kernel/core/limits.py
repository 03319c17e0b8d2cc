"""The limits of a host: when one ends a worker, and with which reason (S17, S18).

Owns the watch over workers whose host has `limits.liveness`. Each is asked for a sign of life, and asked again when it has
given one: `PROBES` times within the limit. At most one question waits, so that a stopped worker's queue does not grow. A sign
of life is the answer, or that the worker has read from a channel that was full: then the question may wait behind much mail.

How much a worker has is measured elsewhere, and the CPU limit is the kernel's; here is what follows.
"""

from __future__ import annotations

import math
import signal
from dataclasses import dataclass

from ..wire import messages as m
from ..wire.configuration import cpu_allowance
from ..wire.errors import ProtocolViolation
from ..wire.reason import (
    EXCEPTION,
    LIMIT_CPU,
    LIMIT_DISK,
    LIMIT_LIVENESS,
    LIMIT_OOM,
    LIMIT_PROCESSES,
    WireReason,
    make_reason,
)
from .effects import ProbeDue, SendToWorker, SetTimer
from .endings import WaitStatus
from .population import Population, require
from .processes import Worker

PROBES = 3
"""Looks within `limits.liveness`. A worker dies at the third that finds its question unanswered: after the limit at the
earliest, after 4/3 of it at the latest."""


@dataclass(slots=True)
class _Watch:
    """One worker that must give signs of life."""

    interval: float
    due: float = 0.0
    probe: int = 0
    answered: bool = True
    has_read: bool = False
    """Since the last look, from a full channel."""
    silent: int = 0
    """Looks since its last sign of life."""
    resting: bool = False
    """It is upgraded: there is no OS process that could give a sign of life."""
    stale: int = 0
    """The last question to the code before an upgrade. An answer to it may still come, and says nothing."""


class Limits:
    """What the limits of all hosts do to their workers."""

    def __init__(self, population: Population) -> None:
        self._population = population
        self._watches: dict[int, _Watch] = {}

    # --- liveness (S17) -----------------------------------------------------------------------------------------------

    def born(self, worker: Worker, now: float) -> None:
        """A worker has been forked: from here on it must give signs of life, if its host asks for them."""
        liveness = worker.limits.liveness
        if liveness is not None:
            earlier = self._watches.get(worker.number)
            watch = self._watches[worker.number] = _Watch(liveness / PROBES)
            if earlier is not None:
                watch.probe = watch.stale = earlier.probe
            self._look_again(worker, watch, now)

    def upgraded(self, worker: Worker) -> None:
        """A worker's old code has ended: nothing is asked until the new one has been forked (S35)."""
        if watch := self._watches.get(worker.number):
            watch.resting = True

    def answered(self, worker: Worker, answer: m.Alive) -> None:
        """A worker has answered. Raises ProtocolViolation if it was not asked."""
        watch = self._watches.get(worker.number)
        if watch is not None and 0 < answer.number <= watch.stale:
            return
        if watch is None or watch.answered or answer.number != watch.probe:
            raise ProtocolViolation("a sign of life that nobody has asked for")
        watch.answered = True

    def has_read(self, worker: Worker) -> None:
        """A worker has read from its channel, which was full."""
        if watch := self._watches.get(worker.number):
            watch.has_read = True

    def probe_due(self, event: ProbeDue, now: float) -> None:
        """Look whether a worker has given a sign of life. One that has given none for too long is killed.

        A look that comes late says nothing: then it was the supervisor that hung, or the whole machine.
        """
        worker, watch = self._population.workers.get(event.worker), self._watches.get(event.worker)
        if worker is None or watch is None or watch.resting:
            return
        late = now - watch.due > watch.interval
        watch.silent = 0 if watch.answered or watch.has_read or late else watch.silent + 1
        watch.has_read = False
        if watch.silent == PROBES:
            limit = worker.limits.liveness
            reason = make_reason(LIMIT_LIVENESS, f"it gave no sign of life within limits.liveness ({limit:g} s)")
            self._population.kill_worker(worker, reason)
        else:
            self._look_again(worker, watch, now)

    def _look_again(self, worker: Worker, watch: _Watch, now: float) -> None:
        if watch.answered:
            watch.answered = False
            watch.probe += 1
            self._population.effects.append(SendToWorker(worker.number, m.Probe(watch.probe)))
        watch.due = now + watch.interval
        self._population.effects.append(SetTimer(watch.due, ProbeDue(worker.number)))

    def removed(self, worker: Worker) -> None:
        """A worker is dead."""
        self._watches.pop(worker.number, None)

    # --- memory, processes, disk and CPU time ------------------------------------------------------------------------------------------

    def measured(self, worker: Worker, memory: int, processes: int = 0, disk: int = 0) -> None:
        """A worker, with its descendants, has so many bytes of memory, so many OS processes and threads, and so many bytes in
        its private temporary folder."""
        limits = worker.limits
        if limits.memory is not None and memory > limits.memory:
            detail = f"it had {memory >> 20} MiB of memory, limits.memory is {limits.memory >> 20} MiB"
            self._population.kill_worker(worker, make_reason(LIMIT_OOM, detail))
        elif limits.processes is not None and processes > limits.processes:
            detail = f"it had {processes} OS processes and threads, limits.processes is {limits.processes}"
            self._population.kill_worker(worker, make_reason(LIMIT_PROCESSES, detail))
        elif limits.disk is not None and disk > limits.disk:
            detail = f"its temporary folder had more than limits.disk ({limits.disk >> 10} KiB)"
            self._population.kill_worker(worker, make_reason(LIMIT_DISK, detail))

    def kernel_reason(self, worker: Worker, status: WaitStatus) -> WireReason | None:
        """Return the reason of a worker that the kernel has ended for its CPU time or for its cgroup's memory, or that has not ended
        well after its cgroup has refused it a fork; None for any other."""
        limits = worker.limits
        if status.out_of_memory and status.signal == signal.SIGKILL and limits.memory is not None:
            return make_reason(LIMIT_OOM, f"its cgroup was out of memory, limits.memory is {limits.memory >> 20} MiB")
        limit = limits.cpu
        if limit is not None and _exhausted(
            None if worker.is_function else cpu_allowance(limit, worker.cpu_used), status
        ):
            return _cpu_spent(limit)
        if status.refused_forks and status.exit_code != 0 and limits.processes is not None:
            detail = f"its cgroup refused it one more, limits.processes is {limits.processes}"
            error = None
            if worker.report is not None and worker.report.kind == EXCEPTION:
                detail, error = f"{detail}: {worker.report.detail}", worker.report.error
            return make_reason(LIMIT_PROCESSES, detail, error=error)
        return None

    def cpu_spent(self, worker: Worker) -> WireReason | None:
        """Return the reason of an actor that is not upgraded because it has used all its CPU time; None for any other."""
        limit = worker.limits.cpu
        return None if limit is None or worker.cpu_used < math.ceil(limit) * 1000 else _cpu_spent(limit)

    # --- invariants ---------------------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Raise AssertionError if somebody is watched who should not be."""
        for number, watch in self._watches.items():
            require(number in self._population.workers, "only the living are watched")
            worker = self._population.workers[number]
            require(worker.limits.liveness is not None, "only who opted in is watched")
            require(watch.silent < PROBES or worker.chosen is not None, "the silent are killed")


def _cpu_spent(limit: float) -> WireReason:
    return make_reason(LIMIT_CPU, f"its CPU time was over limits.cpu ({limit:g} s)")


def _exhausted(soft: int | None, status: WaitStatus) -> bool:
    """Whether this is how the kernel ends a process for its CPU time: by SIGXCPU at the soft limit, and a second later by
    SIGKILL if it has ignored that.

    Others may send these signals too, and how much time a process has used does not tell, because the kernel counts ticks
    here and nowhere else. But when it sends SIGXCPU it raises the soft limit. `soft` is what that was, None for a function
    worker: that has a new one for each invocation and no hard one, because only the privileged may raise it again.
    """
    if soft is None or status.cpu_limit is None:
        return status.signal == signal.SIGXCPU
    return status.signal in (signal.SIGXCPU, signal.SIGKILL) and status.cpu_limit > soft
