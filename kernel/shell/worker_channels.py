"""The control channels of workers: what is sent, what comes in, and what it means that one ends (S13).

Owns the frame of the record that was sent last, because a message to many is one record. What a record means is decided by the
table.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Protocol

from ..core.effects import Effect, KillWorker, SendToWorker
from ..core.table import ProcessTable
from ..wire import messages as m
from ..wire.codec import encode
from ..wire.configuration import Application
from ..wire.mail import Mail
from .attachment import EOF_GRACE, Turn
from .confinement import Confinement
from .host import Host
from .reload import Reloader
from .worker import WorkerHandle

_BOUNDED = frozenset({m.Deliver, m.Reply, m.Failed, m.Members, m.GroupChanged, m.Executed})
"""What counts against a worker's mailbox; EXIT, LINK_DOWN and CANCEL are exempt (S10)."""
_NOTHING: tuple[object, bytes] = (None, b"")


class Runtime(Protocol):
    """What the channels need of the supervisor."""

    loop: asyncio.AbstractEventLoop
    turn: Turn
    application: Application
    table: ProcessTable
    hosts: dict[str, Host]
    workers: dict[int, WorkerHandle]
    reloader: Reloader
    confinement: Confinement

    def perform(self, effects: list[Effect]) -> None: ...

    def end_turn(self) -> None: ...


class WorkerChannels:
    """Those of all workers."""

    def __init__(
        self,
        runtime: Runtime,
        on_death: Callable[[WorkerHandle], None],
    ) -> None:
        """`on_death` is called when a worker's pidfd is readable."""
        self._runtime = runtime
        self._table = runtime.table
        self._workers = runtime.workers
        self._on_death = on_death
        self._encoded: tuple[object, bytes] = _NOTHING
        """The record that was sent last in this turn, and its frame."""

    def end_turn(self) -> None:
        """What was sent is done with."""
        self._encoded = _NOTHING

    def make_handle(self, number: int, host: str, end: socket.socket) -> WorkerHandle:
        """Return a handle for a worker that is not born; `end` is our end of its control channel."""
        runtime = self._runtime
        return WorkerHandle(
            runtime.loop,
            runtime.turn,
            number,
            host,
            runtime.application.hosts[host].limits.mailbox,
            end,
            self._readable,
            self._table.mail_written,
            self._table.worker_has_read,
            self._lost,
            self._on_death,
        )

    def send(self, effect: SendToWorker) -> None:
        """Queue a record for the end of the turn."""
        handle = self._workers.get(effect.worker)
        if handle is None:
            return
        handle = handle.receiving
        record = effect.record
        if record is not self._encoded[0]:  # a message to many is one record
            self._encoded = (record, encode(record))
        handle.send_frame(self._encoded[1], bounded=type(record) in _BOUNDED)
        if handle.overflown:
            self._runtime.perform(self._table.worker_overflowed(effect.worker))

    def kill(self, effect: KillWorker) -> None:
        """SIGKILL, to whatever there is of the worker."""
        handle = self._workers.get(effect.worker)
        if handle is None:
            return
        if handle.child is None:  # a host that is stopped, or busy, must not hold this up (S30)
            runtime = self._runtime
            for host in (*runtime.hosts.values(), *runtime.reloader.spare_hosts()):
                host.give_up(effect.worker)
        else:
            handle.child.kill()
            self._runtime.confinement.kill(effect.worker)

    def _readable(self, handle: WorkerHandle) -> None:
        """A worker has written, or its channel has ended."""
        self.take(handle, handle.channel.receive())
        if handle.channel.violation is not None:
            handle.attachment.stop_reading()
            self._runtime.perform(self._table.worker_violated(handle.number, str(handle.channel.violation)))
        elif handle.channel.ended:
            handle.attachment.stop_reading()
            self._runtime.loop.call_later(EOF_GRACE, self._lost, handle)
        self._runtime.end_turn()

    def take(self, handle: WorkerHandle, records: list[tuple[Any, ...]]) -> None:
        """Tell the table what a worker wrote."""
        perform, now = self._runtime.perform, self._runtime.loop.time()
        from_worker, number = self._table.from_worker, handle.number
        for record in records:
            if type(record) is not Mail:
                perform(from_worker(number, record, now))
            elif (route := self._table.mail_route(number, record.destination)) is not None:
                self._pass_on(record, *route)
            else:
                for send in record.sends():
                    perform(from_worker(number, send, now))

    def _pass_on(self, mail: Mail, sender: str, receiver: int) -> None:
        """What `send` does with each of the messages, once for all of them."""
        handle = self._workers.get(receiver)
        if handle is None:
            return
        handle = handle.receiving
        handle.send_frame(mail.deliver(sender), bounded=True, count=len(mail.rests))
        if handle.overflown:
            self._runtime.perform(self._table.worker_overflowed(receiver))

    def _lost(self, handle: WorkerHandle) -> None:
        """A control channel has ended. That of a worker's old code is nothing to the new one."""
        if self._workers.get(handle.number) is handle and not handle.is_dead:
            self.fence(handle.number, "its control channel ended")

    def fence(self, number: int, detail: str) -> None:
        """A worker's channel has ended. If it lives on it is of no use; if it is dead, its wait status says why (S13), unless
        that is only the end of its old code."""
        handle = self._workers.get(number)
        if handle is not None and (handle.successor is not None or not handle.is_dead):
            self._runtime.perform(self._table.worker_lost(number, detail))
            self._runtime.end_turn()
