"""From an upgrade request to an open connection (S44).

Owns a client's transport between its request and the 101: the checks, the handler, the admission, and the clean-up if any of
it fails. Until the 101 the client's bytes are kept, within a bound.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import time
from typing import Final

from ...kernel.wire.configuration import Route
from ...kernel.wire.messages import Abandon, Admit, Admitted, ConnectionEnded, Joined, Refused
from ...kernel.wire.reason import make_reason
from ..core.answers import Answer, clean_answer, overloaded, plain_answer
from ..core.client_reader import ClientReader
from ..core.frames import MessageWriter
from ..core.handshake import Handshake, HandshakeRefused, encode_rejection
from ..core.handshake_span import CONNECTION, ENTRY, TARGET
from ..core.relay_header import MalformedHeader, RelayHeader, find_relay_header, parse_relay_header
from ..core.requests import RequestHead
from ..core.routing import RouteMatch
from ..core.session import Session
from ..core.session_events import Stream, Target
from .accounts import CLIENT_GONE, Account, request_answered
from .invocations import Completed, Invocation
from .observation import Connection
from .relay import Relay
from .service import Service
from .tracing import Span

logger = logging.getLogger("wsrelay.gateway")

_EARLY: Final = 64 << 10
"""Bytes kept of what a client sends before the 101; then its reading is paused."""


_LEAST_BUFFER: Final = 64 << 10
_MOST_BUFFER: Final = 1 << 30


class Upgrade(asyncio.Protocol):
    """One client in its handshake."""

    def __init__(
        self,
        relay: Relay,
        service: Service,
        transport: asyncio.Transport,
        line: socket.socket | None,
        peer: str,
    ) -> None:
        """`line` is the transport's socket, None if it is not of TCP."""
        self._relay = relay
        self._service = service
        self._transport = transport
        self._line = line
        self._peer = peer
        self._span: Span | None = None
        """The handshake's, while that goes on."""
        self._early = bytearray()
        self._lost = False
        self._answered = False
        self._invocation: Invocation | None = None
        self._handshake: Handshake | None = None
        self._head: RequestHead | None = None
        self._since = time.monotonic()
        self._close_timer: asyncio.TimerHandle | None = None

    def begin(
        self,
        method: bytes,
        http_version: bytes,
        headers: list[tuple[bytes, bytes]],
        head: RequestHead,
        match: RouteMatch,
        early: bytes,
    ) -> None:
        """Take the transport over, check the handshake, and invoke the handler. `early` is what came after the head."""
        if self._service.tracing is not None:
            self._span = self._service.tracing.begin(self._service.id, head, match.route)
        self._transport.set_protocol(self)
        handshake = make_handshake(method, http_version, headers)
        if isinstance(handshake, Answer):
            self.reject(handshake)
            return
        if early:
            self.data_received(early)
        self._handshake, self._head = handshake, head
        route, parameters = match.route, match.parameters
        origins = self._service.origins(route)
        if not origins.allow(head.header("origin"), scheme=head.scheme, host=head.host):
            self.reject(plain_answer(403, "Origin not allowed"))
            return
        started = self._relay.invocations.invoke(
            self._service, route.function, lambda pid: head.to_record(pid, parameters, b""), handshake=True
        )
        if isinstance(started, Answer):
            self.reject(started)
            return
        self._invocation = started
        started.outcome.add_done_callback(functools.partial(self._handled, route))

    # --- the client ---------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Keep what comes before the 101."""
        self._early += data
        if len(self._early) > _EARLY:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """The client gave up: the transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._lost = True
        if self._close_timer is not None:
            self._close_timer.cancel()
        if self._invocation is not None:
            self._invocation.client_gone()
        if not self._answered:
            request_answered(self._service, self._head, self._peer, CLIENT_GONE, self._since)
        self._end_span(None)
        self._service.release(self._transport)

    def reject(self, answer: Answer) -> None:
        """Answer over HTTP and close."""
        if self._lost or self._transport.is_closing():
            return
        self._answered = True
        request_answered(self._service, self._head, self._peer, answer.status, self._since)
        self._end_span(answer.status)
        self._transport.write(encode_rejection(answer))
        self._transport.close()
        self._close_timer = self._relay.loop.call_later(self._service.timeouts.close, self._transport.abort)

    def _end_span(self, status: int | None) -> None:
        span, self._span = self._span, None
        if span is not None:
            span.end(status)

    # --- the handler --------------------------------------------------------------------------------------------------

    def _handled(self, route: Route, future: asyncio.Future[Completed | Answer]) -> None:
        outcome = future.result()
        if isinstance(outcome, Answer):
            self.reject(outcome)
            return
        response = outcome.response
        try:
            value = find_relay_header(response.headers)
            answer = clean_answer(response.status, response.headers, response.body)
            relay = None if value is None else parse_relay_header(value)
        except MalformedHeader as problem:
            logger.error("%s: malformed X-WS-Relay: %s", route.function, problem)
            if problem.target is not None:
                self._abandon(problem.target, outcome.pid, None)
            self.reject(plain_answer(500))
        except ValueError as problem:
            logger.error("%s: malformed response: %s", route.function, problem)
            self._relay.abandon_named(value, outcome.pid)
            self.reject(plain_answer(500))
        else:
            if relay is None:
                self.reject(answer)
            else:
                self._admit(relay, answer, outcome.pid)

    def _abandon(self, target: str, invocation: str, connection: str | None) -> None:
        self._relay.kernel.send(Abandon(target, invocation, connection))

    # --- admission ----------------------------------------------------------------------------------------------------

    def _admit(self, relay: RelayHeader, answer: Answer, invocation: str) -> None:
        if self._lost or self._transport.is_closing() or self._relay.shutting_down or self._service.removed:
            self._abandon(relay.target, invocation, None)
            self.reject(overloaded("The server is shutting down"))
            return
        pid, serial = self._relay.new_pid(self._service.id)
        trace: tuple[tuple[str, str], ...] = ()
        if self._span is not None:
            self._span.note(CONNECTION, pid)
            trace = self._span.trace
        session = functools.partial(
            Session,
            serial,
            pid,
            stream=Stream(relay.topic, relay.metadata, relay.heartbeat, trace),
            hold=relay.hold,
            held_bytes=self._relay.held_bytes,
        )

        def answered(reply: Admitted | Refused) -> None:
            if isinstance(reply, Admitted) and self._span is not None:
                self._span.note(TARGET, reply.pid)
                self._span.note(ENTRY, reply.entry)
            if isinstance(reply, Refused):
                logger.warning("a connection was not admitted: %s: %s", reply.error, reply.message)
                self._abandon(relay.target, invocation, None)
                self.reject(plain_answer(503, "The target is not available"))
            elif not self._open(session(target=Target(reply.pid, reply.worker)), answer):
                self._abandon(reply.pid, invocation, pid)  # the name may be another's by now
                self._relay.kernel.send(ConnectionEnded(pid, make_reason("ws_closed:1006"), ()))
            elif not reply.joined:
                self._relay.kernel.send(Joined(pid))

        self._relay.kernel.request(lambda number: Admit(number, pid, relay.target, invocation), answered)

    def _open(self, session: Session, answer: Answer) -> bool:
        """Send the 101 and hand the transport over. Returns False if the client is gone, or was refused."""
        service, transport, handshake = self._service, self._transport, self._handshake
        if self._lost or transport.is_closing() or handshake is None:
            return False
        if self._relay.shutting_down or service.removed:
            self.reject(overloaded("The server is shutting down"))
            return False
        link = self._relay.workers.get(session.target.worker)
        if link is None or link.overloaded:
            self.reject(overloaded("The target is not available"))
            return False
        if self._line is not None:
            _bound_buffer(self._line, service.limits.outbound)
        limit = service.message_limit
        response, extensions = handshake.accept(answer.headers, limit, compression=service.limits.compression)
        connection = Connection(
            self._relay,
            service,
            transport,
            session,
            ClientReader(limit, extensions),
            MessageWriter(extensions),
            functools.partial(service.release, transport),
        )
        request_answered(service, self._head, self._peer, 101, self._since)
        self._end_span(101)
        connection.account = Account(service, session, self._head)
        self._relay.add(connection)
        connection.open(response, bytes(self._early))
        self._early.clear()
        return True


def _bound_buffer(line: socket.socket, size: int) -> None:
    """Have the operating system keep no more than this for a client (S54). By itself it grows the buffer of TCP to some MiB (tcp_wmem),
    and what has been written there is not seen to wait."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, min(max(size, _LEAST_BUFFER), _MOST_BUFFER))


def make_handshake(method: bytes, http_version: bytes, headers: list[tuple[bytes, bytes]]) -> Handshake | Answer:
    """Check a handshake's syntax (S44)."""
    try:
        return Handshake(method, http_version, headers)
    except HandshakeRefused as refused:
        return refused.answer
