"""One client's HTTP connection: uvicorn's h11 protocol with our limits, and the way to WebSocket.

Owns what a client may cost in a turn, the time a request's head may take, the time a client may take none of its response, and the
decision which request is an upgrade of ours. Its slot was taken by the `Arrival` that it follows. The rest is uvicorn's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from typing import Any, Final, NamedTuple, TypeAlias, cast
from urllib.parse import unquote

import h11
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import is_ssl
from uvicorn.server import ServerState

from ..core.answers import Answer, plain_answer
from ..core.handshake import encode_rejection
from ..core.requests import (
    RequestHead,
    framing_is_ambiguous,
    head_size,
    host_is_malformed,
    host_is_served,
    make_head,
    upgrade_asked,
)
from ..core.routing import Match, RouteMatch, origin_form
from .accounts import request_answered
from .invocations import Invocation
from .relay import Relay
from .service import Service
from .upgrade import Upgrade

_SHARE: Final = 64
"""Events of h11 that are taken for one client in a turn: a chunk of a body is one, and costs as much with one byte as with
64 KiB."""
_AFTER_HEAD: Final = 2
"""Events that may follow a head in its turn, at least: a body that has come with it, and its end."""


Address: TypeAlias = tuple[str, int]


class ServiceConfig(uvicorn.Config):
    """uvicorn's configuration of one service; our protocol finds its own things here."""

    relay: Relay
    service: Service


class PacedConnection(h11.Connection):
    """h11's parser, which needs more bytes, as it says, when a turn's share of events has been taken."""

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes, for the head of a request."""
        super().__init__(h11.SERVER, limit)
        self.share = _SHARE
        """Events that may still be taken in this turn."""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event, while there is a share."""
        if not self.share:
            return h11.NEED_DATA
        self.share -= 1
        event = super().next_event()
        if type(event) is h11.Request:
            self.share = max(self.share, _AFTER_HEAD)
        return event


class PacedFlow(FlowControl):
    """uvicorn's flow control, whose word to read on waits for the client's next turn."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self.yielded = False
        """Whether the client has to wait for its next turn."""

    def resume_reading(self) -> None:
        """Read on, now or in the client's next turn."""
        if self.yielded:
            self.read_paused = False
        else:
            super().resume_reading()

    def yield_turn(self) -> None:
        """Read nothing up to the next turn."""
        self.yielded = True
        self._transport.pause_reading()

    def begin_turn(self) -> None:
        """Read on, unless uvicorn has said otherwise."""
        self.yielded = False
        if not self.read_paused:
            self._transport.resume_reading()


class HttpProtocol(H11Protocol):
    """See the module."""

    flow: PacedFlow
    conn: PacedConnection
    line: socket.socket
    """What was accepted. `client` is its address and port, None if it is none of TCP."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        ours = cast(ServiceConfig, config)
        self.relay = ours.relay
        self.service = ours.service
        self.conn = PacedConnection(self.service.limits.header)
        self.peer = ""
        self.invocation: Invocation | None = None
        """What the current request waits for."""
        self.request_head: RequestHead | None = None
        self.match: Match | None = None
        self.refusal = 0
        """The status that answers a head which we refuse, and h11 does not; 0 for any other."""
        self.refused = False
        """Whether a request was answered while its body was still awaited, because that is malformed."""
        self.since = 0.0
        """When the head of the current request was there (time.monotonic)."""
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def take_over(self, transport: asyncio.Transport, line: socket.socket, client: Address | None, due: float) -> None:
        """Be a transport's protocol from now on, which has a slot. The head of a first request has time until `due`, in the loop's time."""
        # What uvicorn does when a connection is made, without asking the operating system for addresses.
        self.connections.add(self)
        self.transport = transport
        self.line = line
        self.flow = PacedFlow(transport)
        self.client = client
        self.scheme = "https" if is_ssl(transport) else "http"
        self.peer = client[0] if client else ""
        transport.set_protocol(self)
        self._head_timer = self.loop.call_at(due, self._head_overdue)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the slot back."""
        self._stop_awaiting_head()
        self._stop_awaiting_client()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if self.invocation is not None:
            self.invocation.client_gone()
        self.service.release(self.transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client; while a head is incomplete its time runs."""
        if self.transport.is_closing():
            return
        if not self.flow.yielded:
            self.conn.share = _SHARE
        super().data_received(data)
        self._watch_head()

    def handle_events(self) -> None:
        """Handle a turn's share of what has come: the rest when everybody else has had a turn."""
        super().handle_events()
        if not self.conn.share and not self.flow.yielded and self._is_ours():
            self.flow.yield_turn()
            self.loop.call_soon(self._handle_on)

    def _handle_on(self) -> None:
        if not self._is_ours():
            return
        self.conn.share = _SHARE
        self.flow.begin_turn()
        self.handle_events()
        if self._is_ours():
            self._watch_head()

    def _is_ours(self) -> bool:
        return not self.transport.is_closing() and self.transport.get_protocol() is self

    def _watch_head(self) -> None:
        if self.transport.get_protocol() is not self or self.conn.their_state is not h11.IDLE:
            self._stop_awaiting_head()
        elif self._head_timer is None and self.conn.trailing_data[0]:
            self._await_head()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.service.timeouts.header, self._head_overdue)

    def _stop_awaiting_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_overdue(self) -> None:
        self._head_timer = None
        if self.conn.trailing_data[0]:
            self._answer_and_close(plain_answer(408))
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """The client is slower than its response: from now on it must take some, time and again."""
        super().pause_writing()
        self._await_client()

    def resume_writing(self) -> None:
        """It has taken nearly all."""
        self._stop_awaiting_client()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """What the client has not taken yet keeps the connection, even after `close`."""
        super().on_response_complete()
        if self.transport.get_protocol() is self and self.transport.get_write_buffer_size():
            self._await_client()

    def _await_client(self) -> None:
        self._stop_awaiting_client()
        waiting = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(self.service.timeouts.write, self._check_client, waiting)

    def _stop_awaiting_client(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _check_client(self, before: int) -> None:
        self._write_timer = None
        waiting = self.transport.get_write_buffer_size()
        if waiting >= before:
            self.transport.abort()
        elif waiting:
            self._await_client()

    def _answer_and_close(self, answer: Answer) -> None:
        answer_and_close(self.service, self.transport, self.peer, answer)

    def send_400_response(self, msg: str) -> None:
        """Answer a request that h11 refuses, with the status that it hints at: 400, 431 or 501."""
        problem = sys.exc_info()[1]
        status = problem.error_status_hint if isinstance(problem, h11.RemoteProtocolError) else 400
        if self.cycle is not None and not self.cycle.response_complete:
            self.refused = True
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._answer_and_close(plain_answer(status))
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """Close when idle, or after the current response."""
        with contextlib.suppress(h11.LocalProtocolError):
            super().shutdown()
            return
        self.transport.close()

    def _should_upgrade(self) -> bool:
        """Called for every request once its head is there: route it, and say whether uvicorn shall leave it to us."""
        scope = self.scope
        version = scope["http_version"].encode("ascii")
        routed = route_request(
            self.service,
            scope["method"],
            version,
            scope["raw_path"],
            scope["query_string"],
            self.headers,
            self.peer,
            self.scheme,
        )
        self.refusal = 0
        if isinstance(routed, int):
            self.refusal = routed
            return True
        self.request_head, self.match = routed.head, routed.match
        self.invocation = None
        self.since = time.monotonic()
        if routed.upgrades:
            return True
        scope["state"]["protocol"] = self  # a cycle of references: only for those that the application sees
        return False

    @property
    def body_is_coming(self) -> bool:
        """Whether the current request has not come whole."""
        return self.conn.their_state is h11.SEND_BODY

    def head_is_too_large(self) -> bool:
        """Whether the head is over `limits.header` (h11 looks only while it is incomplete)."""
        target = len(self.scope["raw_path"]) + len(self.scope["query_string"])
        return head_size(target, self.headers) > self.service.limits.header

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the transport to an `Upgrade`, with the bytes that came after the head."""
        if self.refusal:
            self._answer_and_close(plain_answer(self.refusal))
        elif isinstance(self.match, RouteMatch) and self.request_head is not None:
            self.connections.discard(self)
            self._stop_awaiting_head()
            self._stop_awaiting_client()
            upgrade = Upgrade(self.relay, self.service, self.transport, self.line if self.client else None, self.peer)
            early = self.conn.trailing_data[0]
            upgrade.begin(event.method, event.http_version, self.headers, self.request_head, self.match, early)


class Routed(NamedTuple):
    """A request's head, what it is for, and whether it is an upgrade of ours."""

    head: RequestHead
    match: Match
    upgrades: bool


def route_request(
    service: Service,
    method: str,
    version: bytes,
    path: bytes,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    peer: str,
    scheme: str | None,
) -> Routed | int:
    """Say what a request is for; or the status that it is to be refused with. `headers` have names in lower case."""
    if framing_is_ambiguous(version, headers) or host_is_malformed(headers):
        return 400
    if not host_is_served(headers, service.hosts):
        return 421
    raw_path = origin_form(path.decode("ascii"))
    head = make_head(method, unquote(raw_path), query, headers, peer, scheme or "http", service.proxies)
    match = service.router.match(method, raw_path)
    upgrades = (
        isinstance(match, RouteMatch)
        and match.route.relay
        and upgrade_asked(headers) == b"websocket"
        and head_size(len(path) + len(query), headers) <= service.limits.header
    )
    return Routed(head, match, upgrades)


def answer_and_close(service: Service, transport: asyncio.Transport, peer: str, answer: Answer) -> None:
    """Answer what is no request that could be read, and end the connection."""
    if not transport.is_closing():
        request_answered(service, None, peer, answer.status, time.monotonic())
        transport.write(encode_rejection(answer))
        transport.close()
        asyncio.get_running_loop().call_later(service.timeouts.close, transport.abort)
