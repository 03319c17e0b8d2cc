"""The births of workers: channels, the fork, and what comes of it; those of upgraded code too.

Owns the steps between the table's decision and a worker that reads, and keeps nothing: whoever is not born yet stands in the
runtime's `workers` without a child.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Protocol

from ..core.effects import Effect, PrepareUpgrade, StartUpgraded, StartWorker
from ..core.table import ProcessTable
from ..core.tally import Tally
from ..wire import journal
from ..wire import journal_records as j
from ..wire import messages as m
from ..wire.channel import channel_pair
from ..wire.errors import ProtocolViolation
from ..wire.failpoints import failpoint
from . import upgrades
from .children import Child
from .confinement import Confinement
from .gateway import Gateway
from .host import Host
from .machine import check_spare_descriptors
from .sweeping import Sweeper
from .worker import WorkerHandle

logger = logging.getLogger("wsrelay")


class Runtime(Protocol):
    """What a birth needs of the supervisor."""

    loop: asyncio.AbstractEventLoop
    table: ProcessTable
    gateway: Gateway
    hosts: dict[str, Host]
    workers: dict[int, WorkerHandle]
    confinement: Confinement
    sweeper: Sweeper

    def perform(self, effects: list[Effect]) -> None: ...

    def end_turn(self) -> None: ...

    def known_children(self) -> set[int]:
        """The os_pids of all children that we have started."""


class Births:
    """All births of this boot."""

    def __init__(
        self, runtime: Runtime, tally: Tally, make_handle: Callable[[int, str, socket.socket], WorkerHandle]
    ) -> None:
        """`make_handle(number, host, end)` returns a handle for a worker that is not born; `end` is our end of its control
        channel."""
        self._runtime = runtime
        self._tally = tally
        self._make_handle = make_handle

    # --- what the table wants -----------------------------------------------------------------------------------------

    def start_worker(self, effect: StartWorker) -> None:
        """Have a worker forked; it is born, or it fails, in a later turn."""
        loop = self._runtime.loop
        self._tally.starting(effect, loop.time())
        try:
            self._fork(effect)
        except OSError as problem:
            logger.error("a worker of %s cannot be started: %s", effect.host, problem)
            loop.call_soon(self._start_failed, effect.worker, f"the worker cannot be started: {problem}")

    def _start_failed(self, number: int, detail: str) -> None:
        self.worker_failed(number, detail)
        self._runtime.end_turn()

    def _fork(self, effect: StartWorker) -> None:
        """Make a worker's channels and have its host fork it. Raises OSError if the descriptors do not suffice."""
        runtime = self._runtime
        with contextlib.ExitStack() as stack:
            control_here, control_there = map(stack.enter_context, channel_pair())
            check_spare_descriptors(control_there.fileno() + 2)
            handle = self._make_handle(effect.worker, effect.host, control_here.dup())
            runtime.workers[effect.worker] = handle
            handle.send(effect.start)
            if effect.start.pid:
                failpoint("spawn.asked")
            self.open_data(handle, effect.start.pid)
            host = runtime.hosts[effect.host]
            runtime.confinement.expect(effect.worker, host.configuration, host.enforcement)
            host.fork(effect.worker, control_there.fileno())

    def prepare_upgrade(self, effect: PrepareUpgrade) -> None:
        """Make the channels for a worker's new code."""
        runtime = self._runtime
        try:
            upgrades.prepare(runtime.workers[effect.worker], effect, self._make_handle)
        except OSError as problem:
            logger.error("%s cannot be upgraded: %s", effect.start.pid, problem)
            runtime.perform(runtime.table.upgrade_refused(effect.worker, str(problem)))

    def start_upgraded(self, effect: StartUpgraded) -> None:
        """The old code is dead. The fork is asked for at the end of this turn, when it has been reaped."""
        runtime = self._runtime
        logger.info("%s is upgraded to %s", effect.pid, effect.entry)
        self._tally.upgrades[effect.entry] += 1
        handle = runtime.workers[effect.worker] = runtime.workers[effect.worker].receiving
        try:
            if effect.host not in runtime.hosts:  # a reload has removed it meanwhile
                raise OSError(f"{effect.host} is configured no more")
            host = runtime.hosts[effect.host]
            runtime.confinement.renew(effect.worker, host.configuration, host.enforcement)
            upgrades.fork(handle, host)
        except OSError as problem:
            logger.error("the new code of %s cannot be started: %s", effect.pid, problem)
            runtime.loop.call_soon(self._start_failed, effect.worker, f"its new code cannot be started: {problem}")

    def open_data(self, handle: WorkerHandle, pid: str) -> None:
        """Make a worker's data channel, if there is a gateway; otherwise it gets one with the gateway. Raises OSError."""
        runtime = self._runtime
        if not runtime.gateway.running:
            return
        data_gateway, data_worker = channel_pair()
        with data_gateway, data_worker:
            handle.receiving.attachment.send(m.OpenData(runtime.table.gateway), data_worker.fileno())
            runtime.gateway.send(m.OpenWorker(handle.number, pid), data_gateway.fileno())

    # --- what a host says ---------------------------------------------------------------------------------------------

    def worker_born(self, number: int, os_pid: int) -> None:
        """A host has forked a worker. Raises ProtocolViolation if that cannot be."""
        runtime = self._runtime
        handle = runtime.workers.get(number)
        if handle is None or handle.child is not None or os_pid in runtime.known_children():
            raise ProtocolViolation("it names a worker or an OS process that it did not fork")
        try:
            child = Child(os_pid)
        except OSError as problem:
            raise ProtocolViolation(f"it names an OS process that is no child of ours: {problem}") from None
        try:
            runtime.confinement.take_in(number, os_pid)
        except OSError as problem:
            logger.error("%s: a worker's cgroup cannot be had: %s", handle.host, problem)
            child.kill()  # before it has read anything
        handle.born(child)
        self._tally.born(number, runtime.loop.time())
        journal.write(j.Born(number, runtime.table.worker_pid(number), os_pid))
        runtime.perform(runtime.table.worker_born(number, runtime.loop.time()))

    def worker_failed(self, number: int, detail: str) -> None:
        """A worker will never be born."""
        runtime = self._runtime
        handle = runtime.workers.pop(number, None)
        if handle is not None:
            handle.close()
            runtime.confinement.let_go(number)
        self._tally.failed(number)
        runtime.perform(runtime.table.worker_failed(number, detail, runtime.loop.time()))

    def worker_unwanted(self, os_pid: int) -> None:
        """A host has forked a worker that was killed before. Raises ProtocolViolation if that cannot be."""
        sweeper = self._runtime.sweeper
        if os_pid in self._runtime.known_children() or os_pid in sweeper.dying:
            raise ProtocolViolation("it names an OS process that it did not fork")
        try:
            sweeper.take(os_pid)
        except OSError as problem:
            raise ProtocolViolation(f"it names an OS process that is no child of ours: {problem}") from None
