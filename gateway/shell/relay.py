"""All open connections, and what the supervisor and the workers say about them.

Owns the table of connections by serial, their PIDs, and the handling of every record that names one. Performs no input or
output of its own: records come from the links, and go to them.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Any

from ...kernel.wire.client_frames import BINARY, TEXT, PlainSend
from ...kernel.wire.messages import (
    Abandon,
    Admitted,
    AwaitService,
    ClientCancel,
    ClientClose,
    ClientControl,
    ClientSend,
    ClientTerminate,
    ConnectionEnded,
    EndConnection,
    InvocationFinished,
    Refused,
    Response,
    Retarget,
    ServiceGone,
    ServiceReturned,
    WorkerEnded,
)
from ...kernel.wire.pid import Pid
from ...kernel.wire.quantities import MAX_DURATION
from ...kernel.wire.reason import KILLED, WireReason, make_reason
from ..core import session_events as e
from ..core.frames import close_code_is_valid, message_head
from ..core.holding import HeldBytes
from ..core.relay_header import MalformedHeader, check_topic, find_relay_header, parse_relay_header
from .connection import RelayConnection
from .data_channels import WorkerLink, Workers
from .drain import drain
from .invocations import Invocations
from .kernel_link import KernelLink
from .stalls import StallWatch
from .turn import Turn

logger = logging.getLogger("wsrelay.gateway")


class Relay:
    """The connections of this incarnation of the gateway."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: Turn, kernel: KernelLink, workers: Workers) -> None:
        self.loop = loop
        self.turn = turn
        self.kernel = kernel
        self.workers = workers
        self.stalls = StallWatch(loop)
        self.invocations = Invocations(loop, kernel, workers)
        self.connections: dict[int, RelayConnection] = {}
        self.held_bytes = HeldBytes()
        self.shutting_down = False
        self._unreachable: dict[int, list[RelayConnection]] = {}
        """Workers whose channel was lost on the way, and that will be fenced; those who are held for them."""
        self._serials = itertools.count(1)
        self._node = self._epoch = self._owner = ""
        workers.on_record = self.handle_worker_record
        workers.on_send = self.handle_plain_send

    def identify(self, node: str, epoch: str, incarnation: int) -> None:
        """Say what the connections' PIDs are made of."""
        self._node, self._epoch, self._owner = node, epoch, f"g{incarnation}"

    def new_pid(self, server: str) -> tuple[Pid, int]:
        """Return the PID and the serial of a new connection."""
        serial = next(self._serials)
        return Pid.make(self._node, server, self._epoch, self._owner, serial), serial

    # --- from workers -------------------------------------------------------------------------------------------------

    def handle_worker_record(self, link: WorkerLink, record: tuple[Any, ...]) -> None:
        """A worker wrote a record. Connections that it names and that are gone are skipped (S8)."""
        if isinstance(record, ClientSend):
            self._send(record)
        elif isinstance(record, ClientControl):
            self._control(link, record)
        elif isinstance(record, ClientClose):
            self._close(link, record)
        elif isinstance(record, ClientCancel):
            for connection in self._named(record.connections):
                connection.handle(e.CancelRequested())
                if record.grace is not None:
                    connection.hasten_close(min(record.grace / 1000, MAX_DURATION))
        elif isinstance(record, ClientTerminate):
            for connection in self._named(record.connections):
                connection.handle(e.EndRequested(make_reason(KILLED)))
        elif isinstance(record, Response) and not self.invocations.handle_response(link, record):
            self._abandon_late(record)

    def _abandon_late(self, response: Response) -> None:
        """A handler answered when nobody waited any more: the target that it names is joined by nobody (S44)."""
        try:
            self.abandon_named(find_relay_header(response.headers), response.pid)
        except MalformedHeader:
            return

    def _named(self, serials: tuple[int, ...]) -> list[RelayConnection]:
        return [self.connections[serial] for serial in serials if serial in self.connections]

    def handle_plain_send(self, send: PlainSend) -> None:
        """A worker wrote a ClientSend to one connection."""
        serial, opcode, payload = send
        connection = self.connections.get(serial)
        if connection is not None:
            connection.send_message(opcode, payload)

    def _send(self, record: ClientSend) -> None:
        """One frame for all, encoded once."""
        data = record.data
        opcode, payload = (TEXT, data.encode()) if isinstance(data, str) else (BINARY, data)
        frame = message_head(opcode, len(payload)) + payload
        for connection in self._named(record.connections):
            if connection.compresses:
                connection.send_message(opcode, payload)
            else:
                connection.send_frame(frame)

    def _close(self, link: WorkerLink, record: ClientClose) -> None:
        if not close_code_is_valid(record.code):
            link.report(f"ClientClose: {record.code} is no close code that may be sent")
            return
        for connection in self._named(record.connections):
            connection.handle(e.CloseRequested(record.code, record.reason))

    def _control(self, link: WorkerLink, record: ClientControl) -> None:
        heartbeat = None if record.heartbeat is None else record.heartbeat / 1000
        try:
            if record.topic is not None:
                check_topic(record.topic)
            if heartbeat is not None and heartbeat > MAX_DURATION:
                raise MalformedHeader("heartbeat is too long")
        except MalformedHeader as problem:
            link.report(f"ClientControl: {problem}")
            return
        sender = e.Target(link.pid, link.number)
        event = e.ControlRequested(sender, record.target, record.topic, record.metadata, heartbeat)
        for connection in self._named(record.connections):
            connection.handle(event)

    # --- from the supervisor ------------------------------------------------------------------------------------------

    def handle_worker_ended(self, record: WorkerEnded) -> None:
        """Drain, act, then close (S14): what its clients have sent and it has not been handed is not decoded for it (S56)."""
        for connection in self._unreachable.pop(record.worker, ()):
            connection.await_service_again()
        link = self.workers.get(record.worker)
        if link is None:
            return
        link.drain()
        self.invocations.handle_end(record.pid, record.reason)
        self._target_ended(list(link.members), record.pid, record.reason, restarting=record.restarting)
        self.workers.remove(record.worker)

    def handle_invocation_finished(self, record: InvocationFinished) -> None:
        """Drain, then act: the worker lives on."""
        link = self.workers.get(record.worker)
        if link is None:
            return
        link.drain()
        self.invocations.handle_end(record.pid, record.reason)
        self._target_ended(list(link.members), record.pid, record.reason, restarting=False)
        if link.pid == record.pid:
            link.pid = ""

    def _target_ended(self, serials: list[int], pid: str, reason: WireReason, *, restarting: bool) -> None:
        event = e.TargetEnded(pid, reason, restarting)
        for connection in self._named(tuple(serials)):
            connection.handle(event)

    def handle_service(self, record: ServiceReturned | ServiceGone) -> None:
        """What a held connection waits for (S56)."""
        connection = self.connections.get(Pid(record.connection).parts.serial)
        if connection is None:
            return
        if isinstance(record, ServiceGone):
            connection.handle(e.ServiceGone())
        elif self.workers.get(record.worker) is None:
            self._unreachable.setdefault(record.worker, []).append(connection)
        else:
            connection.handle(e.ServiceReturned(e.Target(record.pid, record.worker)))

    def handle_end_connection(self, record: EndConnection) -> None:
        """Terminated, or killed by a link (S51)."""
        serial = Pid(record.connection).parts.serial
        connection = self.connections.get(serial)
        if connection is not None:
            connection.handle(e.EndRequested(record.reason))

    # --- for handshakes ---------------------------------------------------------------------------------------------

    def abandon_named(self, header: str | None, invocation: str) -> None:
        """Abandon the target that a relay header names, if it names one (S44)."""
        if header is None:
            return
        try:
            target: str | None = parse_relay_header(header).target
        except MalformedHeader as problem:
            target = problem.target
        if target is not None:
            self.kernel.send(Abandon(target, invocation, None))

    # --- for connections ----------------------------------------------------------------------------------------------

    def add(self, connection: RelayConnection) -> None:
        """An admitted connection opens."""
        self.connections[connection.session.serial] = connection

    def retarget(self, connection: RelayConnection, target: str) -> None:
        """Ask the supervisor for a connection's new target (S47)."""

        def answered(answer: Admitted | Refused) -> None:
            if isinstance(answer, Refused):
                connection.handle(e.RetargetRefused(f"{answer.error}: {answer.message}"))
            elif self.workers.get(answer.worker) is None:  # its channel was lost on the way: it is being fenced
                connection.handle(e.RetargetRefused("NotFound: the target is not reachable"))
            else:
                connection.handle(e.RetargetGranted(e.Target(answer.pid, answer.worker)))

        self.kernel.request(lambda number: Retarget(number, connection.session.pid, target), answered)

    def await_service(self, connection: RelayConnection, name: str) -> None:
        """Ask when the service of a connection's dead target has its name again (S56)."""
        self.kernel.send(AwaitService(connection.session.pid, name))

    def end(self, connection: RelayConnection, effect: e.ReportEnd) -> None:
        """Report a connection's death, with the marks of all its targets that still read (S14)."""
        self.connections.pop(connection.session.serial, None)
        links = [self.workers.get(number) for number in effect.workers]
        marks = tuple((link.number, link.frames_sent) for link in links if link is not None and link.is_open)
        self.kernel.send(ConnectionEnded(connection.session.pid, effect.reason, marks))

    def shut_down(self) -> None:
        """Close every connection (S49), in batches; nothing is admitted from now on."""
        self.shutting_down = True
        drain(self.loop, self.connections.values())
