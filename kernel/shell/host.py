"""The supervisor's handle on one host: the fork server of a `process.host`.

Starts it, has it fork, and starts it again when it dies (S41a). A fork under way when it dies has failed; workers that were
born live on, because they are the supervisor's children. One that says nothing though it is asked to fork is killed: it is asked
nothing else, so that one that has nothing to do sleeps, and writes to no memory that its workers share.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import socket
from typing import Protocol

from ..core.endings import reason_of_death
from ..core.enforcement import Enforcement, environment
from ..wire import logs
from ..wire import messages as m
from ..wire.channel import Channel, channel_pair
from ..wire.configuration import HostConfiguration, pack
from ..wire.errors import ProtocolViolation
from ..wire.failpoints import failpoint
from .attachment import Attachment, Turn
from .children import Child, start_python
from .machine import warn_if_elsewhere
from .watchdog import Watchdog, limit_from_environment

logger = logging.getLogger("wsrelay")

RESTART_DELAY = 1.0
"""Seconds between the starts of a host that dies again and again."""
HANG_LIMIT = 10.0
"""Seconds that a host says nothing though it is asked to fork, after which it is taken to hang, unless the environment says
otherwise; 0 is for ever."""
HANG_LIMIT_VARIABLE = "WSRELAY_HOST_HANG_LIMIT"
START_SHARE = 30
"""So many times the limit it may take to start: what it imports may be large, and load a model say."""


class HostListener(Protocol):
    """Who is told what a host does."""

    def host_changed(self) -> None:
        """It is ready, or gone."""

    def host_failed(self, host: Host) -> None:
        """It cannot be what its configuration asks for: `host.failed`."""

    def worker_born(self, number: int, os_pid: int) -> None:
        """It forked a worker. Raises ProtocolViolation if that cannot be."""

    def worker_failed(self, number: int, detail: str) -> None:
        """It will not fork this worker, or nobody waits for it any more."""

    def worker_unwanted(self, os_pid: int) -> None:
        """It forked a worker that nobody waits for any more. Raises ProtocolViolation if that cannot be."""

    def end_turn(self) -> None:
        """A callback of the loop is done."""


class Host:
    """One fork server, through all its incarnations."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        turn: Turn,
        configuration: HostConfiguration,
        enforcement: Enforcement,
        temporary: str,
        open_files: int,
        listener: HostListener,
    ) -> None:
        """`temporary` is the folder of the private temporary ones. `open_files` is the soft limit on descriptors that workers
        get unless the configuration says otherwise."""
        limits = configuration.limits
        if limits.open_files is None:
            limits = dataclasses.replace(limits, open_files=open_files)
        self.id = configuration.id
        self.ready = False
        self.child: Child | None = None
        self.failed = ""
        """Why its fork server cannot be what its configuration asks for; empty if it can."""
        self.starts = 0
        self.code = ""
        """A digest of what its first fork server had imported; empty until that has said it."""
        self.configuration = configuration
        self.enforcement = enforcement
        self._configuration = dataclasses.replace(
            configuration, limits=limits, identity=enforcement.identity, temporary=temporary
        )
        self._loop = loop
        self._turn = turn
        self._listener = listener
        self._attachment: Attachment | None = None
        self._forking: dict[int, None] = {}
        self._unwanted: set[int] = set()
        """Workers to be forked that were killed before they were born."""
        self._watchdog = Watchdog(loop, self._is_waited_for, self._hangs)
        self._hang_limit = limit_from_environment(HANG_LIMIT_VARIABLE, HANG_LIMIT)
        self._last_start = float("-inf")
        self._stopped = False
        self._retiring = False

    def start(self) -> None:
        """Execute a fresh fork server."""
        if self._stopped:
            return
        self._last_start = self._loop.time()
        try:
            ours, child = self._execute()
        except OSError as problem:  # too many processes or files, or no memory: that may pass
            logger.error("%s: its fork server cannot be started: %s", self.id, problem, extra=logs.about(host=self.id))
            self._loop.call_later(RESTART_DELAY, self.start)
            return
        self.child = child
        if self.starts:
            failpoint("host.restarted")
        self.starts += 1
        self._loop.add_reader(child.pidfd, self._died)
        channel = Channel(ours, m.HOST_TO_SUPERVISOR)
        self._attachment = Attachment(self._loop, self._turn, channel, self._readable, on_broken=self.kill)
        self._attachment.send(m.ConfigureHost(pack(self._configuration)))
        self._watchdog.watch(self._hang_limit * START_SHARE)

    def _execute(self) -> tuple[socket.socket, Child]:
        ours, theirs = channel_pair()
        variables = environment(os.environ, self._configuration.environment, self._configuration.identity)
        with theirs:
            try:
                return ours, Child(start_python("wsrelay.workers.shell.host", theirs.fileno(), variables))
            except BaseException:
                ours.close()
                raise

    def fork(self, number: int, control: int) -> None:
        """Have the worker forked; `control` is its end of its control channel. Raises OSError without a descriptor to
        spare."""
        if self._attachment is None:
            self._loop.call_soon(self._fork_failed, number, "host_lost: the host is being restarted")
        else:
            self._attachment.send(m.Fork(number), control)
        self._forking[number] = None
        self._watch()

    def _watch(self) -> None:
        """Have an eye on it while it is asked for something. One that starts is watched already."""
        if not self.ready:
            return
        if not self._forking and not self._unwanted:
            self._watchdog.stop()
        elif not self._watchdog.watching:
            self._watchdog.watch(self._hang_limit)

    def _is_waited_for(self, number: int) -> None:
        """Nothing more is asked: it is to answer what it was asked, or to become ready."""

    def _hangs(self, limit: float) -> None:
        logger.error(
            "%s: its fork server has not answered for %g s: killed", self.id, limit, extra=logs.about(host=self.id)
        )
        self.kill()

    def give_up(self, number: int) -> None:
        """Nobody waits for this worker any more: it has failed, however long the host takes, and is killed at its birth."""
        if number in self._forking and number not in self._unwanted:
            self._unwanted.add(number)
            self._loop.call_soon(self._abandon, number)

    def _abandon(self, number: int) -> None:
        if self._attachment is None:  # it will not be born
            self._unwanted.discard(number)
        self._fork_failed(number, "it was killed before it was born")

    def _fork_failed(self, number: int, detail: str) -> None:
        if self._forking.pop(number, 0) is None:
            self._listener.worker_failed(number, detail)
            self._end_if_done()
            self._listener.end_turn()

    def _readable(self) -> None:
        attachment = self._attachment
        if attachment is None:
            return
        records = attachment.channel.receive()
        try:
            for record in records:
                self._take(record)
            if attachment.channel.violation is not None:
                raise attachment.channel.violation
        except ProtocolViolation as violation:
            logger.error(
                "%s: its fork server wrote garbage (%s): killed", self.id, violation, extra=logs.about(host=self.id)
            )
            self.kill()
        if attachment.channel.ended or attachment.channel.violation is not None:
            attachment.stop_reading()
            self.kill()
        self._listener.end_turn()

    def _take(self, record: object) -> None:
        self._watchdog.heard()
        if isinstance(record, m.HostReady):
            self.ready = True
            self._watchdog.stop()
            for source, why in record.refused:
                logger.warning(
                    "%s: %s is not preloaded, each worker imports it: %s",
                    self.id,
                    source,
                    why,
                    extra=logs.about(host=self.id),
                )
            if self.child is not None:
                about = logs.about(host=self.id)
                warn_if_elsewhere(self.id, self.child.os_pid, self.configuration.cpu_affinity, about)
            self._listener.host_changed()
        elif isinstance(record, m.HostFailed):
            self.failed = f"{self.id}: its workers cannot be confined as asked: {record.message}"
            self._stopped = True  # the next one could not either
            self._listener.host_failed(self)
        elif isinstance(record, m.HostCode):
            self.code = self.code or record.digest
        elif isinstance(record, m.Forked):
            if record.worker in self._unwanted:
                self._listener.worker_unwanted(record.os_pid)
                self._unwanted.remove(record.worker)
            else:
                self._listener.worker_born(record.worker, record.os_pid)
                self._forking.pop(record.worker, None)
            self._end_if_done()
        elif isinstance(record, m.ForkFailed):
            self._unwanted.discard(record.worker)
            self._fork_failed(record.worker, f"fork failed: {record.message}")
        self._watch()

    def kill(self) -> None:
        """SIGKILL; it will be restarted."""
        if self.child is not None:
            self.child.kill()

    def stop(self) -> None:
        """SIGKILL, for good."""
        self._stopped = True
        self.kill()

    def retire(self) -> None:
        """Another host stands in its place: fork what has been asked for, and end for good."""
        self._retiring = True
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._retiring and not self._forking and not self._unwanted:
            self.stop()

    def _died(self) -> None:
        child = self.child
        if child is None or (status := child.status()) is None:
            return
        self._loop.remove_reader(child.pidfd)
        self._readable()  # its group is not killed: workers that are born and not yet started are in it
        self.child, self.ready = None, False
        self._watchdog.stop()
        if self._attachment is not None:
            self._attachment.close()
            self._attachment = None
        self._unwanted.clear()
        for number in list(self._forking):
            self._fork_failed(number, "host_lost: the host died before it had forked")
        child.reap()
        self._listener.host_changed()
        if not self._stopped:
            why = reason_of_death(None, None, status)
            logger.error("%s: its fork server ended (%s): restarting", self.id, why, extra=logs.about(host=self.id))
            self._loop.call_at(max(self._loop.time(), self._last_start + RESTART_DELAY), self.start)
        self._listener.end_turn()
