"""A handshake through a real gateway process, up to the 101 or its refusal (S44)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from support import raw_client
from support.pair import PID, Pair, client_with, relay
from support.raw_client import handshake
from websockets.exceptions import InvalidStatus
from wsrelay.kernel.wire import messages as m


def test_the_handler_sees_the_request_and_the_target_joins(open_pair: Callable[..., Pair]) -> None:  # S44, S45
    pair = open_pair(
        message_topic="chat", metadata={"user": 7}, options={"path": "/ws/a%20b?q=1", "subprotocols": ["x", "y"]},
        headers=(("Set-Cookie", "a=b"), ("Sec-WebSocket-Protocol", "y"), ("Content-Type", "text/plain")),
    )  # fmt: skip
    request = pair.request
    assert (request.method, request.path, request.query) == ("GET", "/ws/a b", "q=1")
    assert request.parameters == (("room", "a b"),)
    assert request.remote_address == "127.0.0.1"
    assert dict(request.headers)["upgrade"] == "websocket"
    assert pair.admit == m.Admit(pair.admit.request, PID % 1, pair.target.pid, request.pid)
    assert pair.join == m.Join(1, PID % 1, "chat", b"\x81\xa4user\x07", False)
    assert pair.client.subprotocol == "y"
    headers = pair.client.response.headers
    assert headers["Set-Cookie"] == "a=b"
    assert "X-WS-Relay" not in headers
    assert "Content-Type" not in headers


def reject(supervisor: Any, play: Callable[[], Any], **options: Any) -> Any:
    with pytest.raises(InvalidStatus) as caught, client_with(supervisor, play, **options):
        pass
    return caught.value.response


def test_no_relay_header_gives_the_handlers_own_response(supervisor: Any) -> None:
    function = supervisor.function_worker()

    def play() -> None:
        supervisor.grant(function, handshake=True)  # S44
        supervisor.answer(function, 401, [("X-Why", "no token")], b"log in first")

    response = reject(supervisor, play)
    assert (response.status_code, response.headers["X-Why"], response.body) == (401, "no token", b"log in first")


def test_a_malformed_header_is_500_and_its_target_is_abandoned(supervisor: Any) -> None:  # S44
    function, target = supervisor.function_worker(), supervisor.actor()

    def play() -> None:
        supervisor.grant(function)
        supervisor.answer(function, headers=relay(target.pid, heartbeat_interval="-1s"))

    assert reject(supervisor, play).status_code == 500
    assert supervisor.expect(m.Abandon) == m.Abandon(target.pid, function.pid, None)


def test_a_dead_target_is_503(supervisor: Any) -> None:  # S44
    function = supervisor.function_worker()

    def play() -> None:
        supervisor.grant(function)
        supervisor.answer(function, headers=relay("nobody"))
        asked = supervisor.expect(m.Admit)
        supervisor.send(m.Refused(asked.request, "NotFound", "no such name"))

    assert reject(supervisor, play).status_code == 503
    assert supervisor.expect(m.Abandon) == m.Abandon("nobody", function.pid, None)


@pytest.mark.parametrize(
    ("path", "origin", "allowed"),
    [
        ("/ws/x", None, True),
        ("/ws/x", "http://127.0.0.1:PORT", True),
        ("/ws/x", "https://127.0.0.1:PORT", False),
        ("/ws/x", "http://127.0.0.1", False),
        ("/ws/x", "http://evil.example", False),
        ("/ws/x", "null", False),
        ("/listed", "https://app.example.com", True),
        ("/listed", "https://app.example.com:443", True),
        ("/listed", "https://app.example.com.evil.org", False),
        ("/listed", "https://a.example.org", True),
        ("/listed", "https://a.b.example.org", False),
        ("/listed", "http://127.0.0.1:PORT", False),
    ],
)
def test_origins_are_checked_before_the_handler(supervisor: Any, path: str, origin: str | None, allowed: bool) -> None:
    port = str(supervisor.ports["app:gateway"])  # S44
    function = supervisor.function_worker()

    def play() -> None:
        if allowed:
            supervisor.grant(function)
            supervisor.answer(function, 418)

    response = reject(supervisor, play, path=path, origin=origin and origin.replace("PORT", port))
    assert response.status_code == (418 if allowed else 403)
    if not allowed:
        assert not [record for record in supervisor.inbox if isinstance(record, m.RequestInvocation)]


HEAD = "GET /ws/x HTTP/1.1\nHost: h\nConnection: Upgrade\nUpgrade: websocket\n"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD + "Sec-WebSocket-Version: 13\n\n", 400),
        (HEAD + "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: short\n\n", 400),
        (HEAD + "Sec-WebSocket-Version: 8\n" + KEY + "\n", 426),
        (HEAD + "Sec-WebSocket-Version: 13\nContent-Length: 5\n" + KEY + "\nhello", 400),
        (HEAD.replace("1.1", "1.0") + "Sec-WebSocket-Version: 13\n" + KEY + "\n", 400),
        (HEAD + "Sec-WebSocket-Version: 13\nSec-WebSocket-Protocol: \u00ff\n" + KEY + "\n", 400),
        (HEAD.replace("/ws/x", "/nowhere") + "Sec-WebSocket-Version: 13\n" + KEY + "\n", 404),
    ],
)
def test_handshakes_are_checked_before_the_handler(supervisor: Any, head: str, status: int) -> None:  # S44
    raw = raw_client.connect(supervisor, head.replace("\n", "\r\n").encode())
    with raw, raw.makefile("rb") as answer:
        assert answer.readline().split()[1] == b"%d" % status
    assert not supervisor.inbox


def test_a_client_that_leaves_during_the_handshake_leaves_nothing(supervisor: Any) -> None:  # S44
    function, target = supervisor.function_worker(), supervisor.actor()
    raw = raw_client.connect(supervisor, handshake(b"/ws/x"))
    with raw:
        supervisor.grant(function)
        supervisor.answer(function, headers=relay(target.pid))
        asked = supervisor.expect(m.Admit)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other = raw_client.connect(supervisor, handshake(b"/ws/x"))
    with other:
        supervisor.expect(m.RequestInvocation)  # the gateway has seen the reset before it
        supervisor.send(m.Admitted(asked.request, target.pid, target.number))
        assert supervisor.expect(m.Abandon) == m.Abandon(target.pid, function.pid, asked.connection)
        connection, reason, marks = supervisor.ended()
        assert (connection, reason.kind, marks) == (asked.connection, "ws_closed:1006", ())


def test_a_client_that_leaves_while_waiting_is_withdrawn(supervisor: Any) -> None:
    raw = raw_client.connect(supervisor, handshake(b"/ws/x"))
    with raw:
        wanted = supervisor.expect(m.RequestInvocation)
    assert supervisor.expect(m.WithdrawInvocation) == m.WithdrawInvocation(wanted.request)


def test_bytes_before_the_101_are_kept(supervisor: Any) -> None:
    frame = b"\x81\x82\0\0\0\0hi"
    function, target = supervisor.function_worker(), supervisor.actor()
    raw = raw_client.connect(supervisor, handshake(b"/ws/x"))
    with raw:
        raw.sendall(frame)
        supervisor.grant(function)
        raw.sendall(frame)
        supervisor.answer(function, headers=relay(target.pid))
        supervisor.admit(target)
        assert isinstance(target.next(), m.Join)
        assert target.next() == target.next() == m.ClientMessage(1, "hi")
    target.expect(m.Leave)
