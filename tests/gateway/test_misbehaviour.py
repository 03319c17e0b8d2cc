"""Clients and workers that break the rules, and channels that break, at a real gateway process (S11, S13, S43, S46, S49)."""

from __future__ import annotations

import socket

import pytest
from support.pair import Pair
from support.raw_client import frame
from wsrelay.kernel.wire import messages as m


@pytest.mark.parametrize(
    ("data", "code", "leave"),
    [
        (frame(3, b""), 1002, "protocol_error"),
        (frame(1, b"x", rsv=0x40), 1002, "protocol_error"),
        (b"\x81\x01x", 1002, "protocol_error"),  # unmasked
        (frame(0, b"x"), 1002, "protocol_error"),
        (frame(8, b"\x03\xed"), 1002, "protocol_error"),  # a Close with 1005
        (frame(1, b"\xff\xfe"), 1007, "protocol_error"),
        (frame(8, b"\x03\xe8\xff"), 1007, "protocol_error"),
        (frame(2, b"x" * 100_001), 1009, "too_big"),
        (frame(2, b"x" * 60_000, fin=False) + frame(0, b"x" * 60_000), 1009, "too_big"),
        (frame(1, "ü".encode() * 60_000), 1009, "too_big"),
    ],
)
def test_a_client_that_breaks_the_protocol(pair: Pair, data: bytes, code: int, leave: str) -> None:  # S46, S49
    pair.client.send("before")
    pair.client.socket.sendall(data)
    assert pair.closed()[0] == code
    pair.client.close()
    assert pair.target.next() == m.ClientMessage(1, "before")
    assert pair.target.next() == m.Leave(1, leave, code)
    assert pair.supervisor.ended()[1].kind == f"ws_closed:{code}"


@pytest.mark.parametrize("kind", ["garbage", "frame", "control", "close", "response"])
def test_a_worker_that_writes_garbage_is_reported_alone(pair: Pair, kind: str) -> None:  # S11
    culprit = pair.supervisor.actor()
    if kind == "garbage":
        culprit.send_raw(b"\xc1\xff\x00")
    elif kind == "frame":
        culprit.send(m.Join(1, pair.pid, "t", b"", False))
    elif kind == "control":
        culprit.send(m.ClientControl((1,), "x", "ws.join", None, None))
    elif kind == "close":
        culprit.send(m.ClientClose((1,), 1005, ""))
    else:
        culprit.send(m.Response("{node@h|00000000000000aa.s.77}", 200, (), b""))
    assert pair.supervisor.expect(m.ReportViolation).worker == culprit.number
    culprit.wait_end()
    culprit.end("protocol")
    pair.client.send("unharmed")
    assert pair.target.next() == m.ClientMessage(1, "unharmed")


def test_a_channel_that_ends_waits_for_the_notice(pair: Pair) -> None:  # S13
    pair.target.send(m.ClientSend((1,), "last"))
    pair.target.close()
    assert pair.client.recv(timeout=10) == "last"
    pair.client.send("to nobody")
    pair.target.end("signal:SIGKILL", close=False)
    assert pair.closed() == (1011, "signal:SIGKILL")


def test_a_worker_that_lives_without_its_channel_is_reported(pair: Pair) -> None:  # S13, S43
    pair.target.close()
    assert pair.supervisor.expect(m.ReportLost).worker == pair.target.number
    pair.target.end("noconnection", close=False)
    assert pair.closed() == (1011, "noconnection")


def test_a_channel_that_takes_nothing_any_more_is_reported(pair: Pair) -> None:  # S43
    pair.target.channel._socket.shutdown(socket.SHUT_RD)
    pair.client.send("to nobody")
    assert pair.supervisor.expect(m.ReportLost).worker == pair.target.number
    pair.target.end("noconnection")
    assert pair.closed() == (1011, "noconnection")
