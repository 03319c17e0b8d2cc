"""Targets that are slow, and clients that are slow or silent, at a real gateway process (S46, S53 to S55)."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from support import raw_client
from support.pair import Pair, relay
from support.raw_client import frame, handshake
from websockets.exceptions import ConnectionClosed
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import Limits, Ping, Timeouts


def send_until_blocked(raw: socket.socket, data: memoryview) -> memoryview:
    """Send until the gateway reads no more; return what is left."""
    while data and select.select([], [raw], [], 0.3)[1]:
        data = data[raw.send(data[:65536]) :]
    return data


def test_a_slow_target_stops_its_clients_and_loses_nothing(supervisor: Any, open_pair: Callable[..., Pair]) -> None:
    other = open_pair()  # S53
    function, target = supervisor.function_worker(), supervisor.actor()
    raw = raw_client.connect(supervisor, handshake(b"/ws/x"))
    with raw:
        supervisor.grant(function)
        supervisor.answer(function, headers=relay(target.pid))
        supervisor.admit(target)
        target.expect(m.Join)
        total = 600
        left = memoryview(b"".join(frame(1, b"%06d" % number + b"x" * 50_000) for number in range(total)))
        size = len(left)
        left = send_until_blocked(raw, left)
        assert size - len(left) < 20_000_000, "the gateway's memory is not bounded"
        other.client.send("not held up")
        assert other.target.expect(m.ClientMessage).data == "not held up"
        received, deadline = 0, time.monotonic() + 30
        while received < total:
            assert time.monotonic() < deadline, f"{received} of {total} came"
            left = left[raw.send(left[:65536]) :] if left and select.select([], [raw], [], 0)[1] else left
            if not target.inbox:
                target.pump(0.01)
            while target.inbox:
                assert target.inbox.pop(0).data[:6] == f"{received:06}"
                received += 1
    assert target.expect(m.Leave).reason == "connection_lost"


def test_a_target_that_stays_slow_costs_the_client_the_connection(serve: Any, open_pair: Callable[..., Pair]) -> None:
    supervisor = serve(limits=Limits(inbound=50_000), timeouts=Timeouts(stall=0.2), ping=Ping(0.05, 0.05))
    pair = open_pair(using=supervisor)  # S53: 1013, and no ping timeout meanwhile
    thread = threading.Thread(target=lambda: [pair.client.send("x" * 40_000) for _ in range(40)])
    with contextlib.suppress(ConnectionClosed):
        thread.start()
    code = pair.closed()
    thread.join()
    assert code == (1013, "slow target")


def test_a_slow_client_is_closed_and_holds_up_nobody(open_pair: Callable[..., Pair], serve: Any) -> None:  # S54
    supervisor = serve(limits=Limits(outbound=200_000), timeouts=Timeouts(close=0.3, write=60.0))
    pair, other = open_pair(using=supervisor, options={"close_timeout": 0.1}), open_pair(using=supervisor)
    # The client's own thread stops reading once its queue of messages is full.
    for _ in range(300):
        pair.target.send(m.ClientSend((1,), b"x" * 60_000))
    assert pair.target.expect(m.Leave) == m.Leave(1, "slow_client", 1013)
    assert supervisor.ended()[1].kind == "ws_closed:1013"
    other.client.send("hello")
    assert other.target.next() == m.ClientMessage(2, "hello")


def test_a_client_that_takes_nothing_for_too_long(open_pair: Callable[..., Pair], serve: Any) -> None:  # S54
    supervisor = serve(limits=Limits(outbound=1 << 28), timeouts=Timeouts(close=0.2, write=0.3))
    pair = open_pair(using=supervisor, options={"close_timeout": 0.1})
    for _ in range(300):
        pair.target.send(m.ClientSend((1,), b"x" * 60_000))
    assert pair.target.expect(m.Leave) == m.Leave(1, "slow_client", 1013)


def test_pings_and_a_client_that_does_not_answer(serve: Any, open_pair: Callable[..., Pair]) -> None:  # S55, S49
    supervisor = serve(ping=Ping(0.05, 0.1))
    function, target = supervisor.function_worker(), supervisor.actor()
    raw = raw_client.connect(supervisor, handshake(b"/ws/x"))
    with raw, raw.makefile("rb") as stream:
        supervisor.grant(function)
        supervisor.answer(function, headers=relay(target.pid))
        supervisor.admit(target)
        while stream.readline() != b"\r\n":
            pass
        for _ in range(3):  # answered pings keep it alive
            assert stream.read(2) == b"\x89\0"
            raw.sendall(frame(10, b""))
        assert stream.read(2) == b"\x89\0"
        head = stream.read(2)
        assert (head[0], stream.read(head[1])) == (0x88, b"\x03\xf3ping timeout")
        raw.sendall(frame(8, b"\x03\xf3"))
        assert stream.read() == b""
    assert target.expect(m.Leave) == m.Leave(1, "timeout", 1011)
    assert supervisor.ended()[1].kind == "ws_closed:1011"


def test_a_client_that_does_not_complete_the_close(serve: Any, open_pair: Callable[..., Pair]) -> None:  # S46, S51
    supervisor = serve(timeouts=Timeouts(close=0.2))
    function, target = supervisor.function_worker(), supervisor.actor()
    raw = raw_client.connect(supervisor, handshake(b"/ws/x"))
    with raw:
        supervisor.grant(function)
        supervisor.answer(function, headers=relay(target.pid))
        supervisor.admit(target)
        target.send(m.ClientClose((1,), 1000, ""))
        raw.sendall(frame(1, b"too late"))
        assert isinstance(target.next(), m.Join)
        assert target.next() == m.Leave(1, "closed", 1000)
    assert supervisor.ended()[1].kind == "ws_closed:1006"
