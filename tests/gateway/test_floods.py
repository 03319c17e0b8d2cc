"""What one client sends without end, or does not take, in a real gateway: it is bounded, and the others have their turn (S10, S54,
invariant 11)."""

from __future__ import annotations

import contextlib
import signal
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.raw_client import GET, connect, frame, handshake, head_of_answer, join
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import Limits, Static, Timeouts


@contextlib.contextmanager
def stopped(supervisor: Any) -> Iterator[None]:
    """While the gateway stands still: what is sent meanwhile it finds in one turn, in the order in which it was sent."""
    supervisor.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        supervisor.process.send_signal(signal.SIGCONT)


def joined(supervisor: Any, function: Any, target: Any, headers: bytes = b"", **options: Any) -> socket.socket:
    """The line of a client that has joined `target`."""
    line, answer = join(supervisor, function, target, handshake(b"/ws/x", headers), **options)
    target.expect(m.Join)
    assert answer == 101
    return line


@pytest.mark.parametrize("uvloop", [True, False])
@pytest.mark.parametrize(
    ("flood", "message"),
    [
        (frame(1, b"a", fin=False) + frame(0, b"", fin=False) * 8_000 + frame(0, b"b"), "ab"),
        (frame(1, b"a", fin=False) + frame(0, b"x", fin=False) * 7_000 + frame(0, b"b"), f"a{'x' * 7_000}b"),
        (frame(9, b"") * 8_000 + frame(1, b"b"), "b"),
        (frame(1, b"a", fin=False) + (frame(0, b"", fin=False) + frame(10, b"")) * 4_000 + frame(0, b"b"), "ab"),
    ],
    ids=["empty fragments", "fragments", "pings", "fragments and pongs"],
)
def test_a_flood_of_tiny_frames_holds_up_nobody(serve: Any, uvloop: bool, flood: bytes, message: str) -> None:
    supervisor = serve(uvloop=uvloop)
    function, target = supervisor.function_worker(), supervisor.actor()
    with joined(supervisor, function, target) as flooder, joined(supervisor, function, target) as other:
        with stopped(supervisor):
            flooder.sendall(flood)
            other.sendall(frame(1, b"not held up"))
        assert target.next() == m.ClientMessage(2, "not held up")
        assert target.next() == m.ClientMessage(1, message)


@pytest.mark.parametrize("uvloop", [True, False])
def test_a_flood_that_a_close_ends(serve: Any, uvloop: bool) -> None:  # S46
    supervisor = serve(uvloop=uvloop)
    function, target = supervisor.function_worker(), supervisor.actor()
    with joined(supervisor, function, target) as flooder, joined(supervisor, function, target) as other:
        with stopped(supervisor):
            flooder.sendall(frame(1, b"", fin=False) + frame(0, b"", fin=False) * 4_000 + frame(8, b"\x03\xe8"))
            flooder.sendall(frame(0, b"", fin=False) * 4_000)
            other.sendall(frame(1, b"not held up"))
        assert target.next() == m.ClientMessage(2, "not held up")
        assert target.next() == m.Leave(1, "client_closed", 1000)
        assert flooder.recv(100) == b"\x88\x02\x03\xe8"


def peak_memory(supervisor: Any) -> int:
    """The most that the gateway's resident memory has been, in bytes."""
    lines = Path(f"/proc/{supervisor.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def deflated(payload: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.mark.parametrize("uvloop", [True, False])
@pytest.mark.parametrize("pieces", [1, 2])
def test_what_a_worker_does_not_read_stays_compressed(
    serve: Any, uvloop: bool, pieces: int
) -> None:  # S53, invariant 11
    size, count = 1 << 20, 60
    supervisor = serve(uvloop=uvloop, limits=Limits(message=size, inbound=size, compression=True))
    function, slow, other = supervisor.function_worker(), supervisor.actor(), supervisor.actor()
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n"
    bomb = deflated(bytes(size))
    whole = frame(2, bomb, rsv=0x40)
    if pieces == 2:
        whole = frame(2, bomb[:500], fin=False, rsv=0x40) + frame(0, bomb[500:])
    with joined(supervisor, function, slow, offer) as bomber, joined(supervisor, function, other) as bystander:
        before = peak_memory(supervisor)
        bomber.sendall(whole * count)
        for _ in range(10):  # the gateway has read what the bomber has sent, and had turns in which it could go on
            bystander.sendall(frame(1, b"not held up"))
            assert other.next() == m.ClientMessage(2, "not held up")
        assert peak_memory(supervisor) - before < 20 << 20
        for _ in range(count):
            assert slow.next() == m.ClientMessage(1, bytes(size))
        assert peak_memory(supervisor) - before < 20 << 20


@pytest.mark.parametrize("uvloop", [True, False])
def test_many_clients_and_a_worker_that_reads_slowly(serve: Any, uvloop: bool) -> None:  # S53, invariant 11
    size, count, bombers = 1 << 20, 20, 8
    supervisor = serve(uvloop=uvloop, limits=Limits(message=size, inbound=size, compression=True))
    function, slow = supervisor.function_worker(), supervisor.actor()
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n"
    bomb = frame(2, deflated(bytes(size)), rsv=0x40)
    with contextlib.ExitStack() as lines:
        opened = [lines.enter_context(joined(supervisor, function, slow, offer)) for _ in range(bombers)]
        before = peak_memory(supervisor)
        for line in opened:
            line.sendall(bomb * count)
        received: list[int] = []
        for _ in range(bombers * count):  # one message at a time: the gateway is relieved again and again
            message = slow.expect(m.ClientMessage)
            assert len(message.data) == size
            received.append(message.connection)
        assert peak_memory(supervisor) - before < 30 << 20
        assert {received.count(serial) for serial in range(1, bombers + 1)} == {count}
        first = received[: bombers * count // 2]
        assert all(serial in first for serial in range(1, bombers + 1)), (
            "somebody had no turn until the others were done"
        )


@pytest.mark.parametrize("uvloop", [True, False])
def test_a_violation_behind_messages_and_then_half_a_line(serve: Any, uvloop: bool) -> None:  # S49
    supervisor = serve(uvloop=uvloop)
    function, target = supervisor.function_worker(), supervisor.actor()
    with joined(supervisor, function, target) as client:
        client.sendall(frame(1, b"whole") + frame(3, b"no opcode"))
        client.shutdown(socket.SHUT_WR)
        received = b""
        while data := client.recv(4096):
            received += data
        assert received == b"\x88\x10\x03\xeaprotocol error"
        assert target.next() == m.ClientMessage(1, "whole")
        assert target.next() == m.Leave(1, "protocol_error", 1002)
        assert supervisor.ended()[1].kind == "ws_closed:1002"


POST = b"POST %s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunks(size: int, count: int) -> bytes:
    return (b"%x\r\n" % size + b"x" * size + b"\r\n") * count


@pytest.mark.parametrize("uvloop", [True, False])
@pytest.mark.parametrize(("size", "count"), [(1, 9_000), (5, 5_000)])
def test_a_flood_of_tiny_chunks_holds_up_nobody(serve: Any, uvloop: bool, size: int, count: int) -> None:
    supervisor = serve(uvloop=uvloop)
    functions = [supervisor.function_worker(), supervisor.function_worker()]
    with connect(supervisor, POST % b"/post") as flooder, connect(supervisor, b"") as other:
        with stopped(supervisor):
            flooder.sendall(chunks(size, count) + b"0\r\n\r\n")
            other.sendall(GET % b"/plain/x")
        first, second = (supervisor.grant(function) for function in functions)
        assert first.path == "/plain/x"
        assert (second.path, second.body) == ("/post", b"x" * size * count)
        for function, line in ((functions[0], other), (functions[1], flooder)):
            supervisor.answer(function, 204)
            assert head_of_answer(line).startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize("uvloop", [True, False])
def test_a_long_body_in_many_chunks(serve: Any, uvloop: bool) -> None:
    supervisor = serve(uvloop=uvloop, limits=Limits(body=4 << 20))
    function = supervisor.function_worker()
    with connect(supervisor, POST % b"/post" + chunks(500, 5_000) + b"0\r\n\r\n" + GET % b"/nowhere") as line:
        assert supervisor.grant(function).body == b"x" * 2_500_000
        supervisor.answer(function, 204)
        assert head_of_answer(line).startswith(b"HTTP/1.1 204 ")


def test_many_requests_at_once_are_answered_in_turn(supervisor: Any) -> None:  # RFC 9112 §9.3.2
    count = 300
    with connect(supervisor, (GET % b"/nowhere") * count + GET % b"/ws/x") as line:
        function = supervisor.function_worker()
        assert supervisor.grant(function).path == "/ws/x"
        supervisor.answer(function, 418)
        received = b""
        while b"HTTP/1.1 418 " not in received:
            received += line.recv(65536)
        assert received.count(b"HTTP/1.1 404 ") == count
        assert b"connection: close" not in received


@pytest.mark.parametrize(("path", "status"), [(b"/nowhere", b"404"), (b"/files/page.txt", b"200")])
def test_a_body_that_nobody_takes_ends_the_connection(serve: Any, tmp_path: Path, path: bytes, status: bytes) -> None:
    (tmp_path / "page.txt").write_text("page")
    supervisor = serve(statics=(Static("/files", str(tmp_path)),))
    with (
        connect(supervisor, POST.replace(b"POST", b"GET") % path + chunks(1, 100)) as line,
        line.makefile("rb") as answer,
    ):
        received = answer.read()
    assert received.startswith(b"HTTP/1.1 " + status)
    assert b"\r\nconnection: close\r\n" in received


def test_a_body_that_has_come_does_not_end_the_connection(supervisor: Any) -> None:
    request = b"POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"
    with connect(supervisor, request) as line:
        for _ in range(2):
            assert b"connection: close" not in head_of_answer(line)
            line.sendall(request)


@pytest.mark.parametrize("uvloop", [True, False])
def test_what_a_client_does_not_read_is_bounded_in_the_operating_system_too(serve: Any, uvloop: bool) -> None:
    # S54: it would keep 2.5 MiB and more by itself
    supervisor = serve(limits=Limits(outbound=64 << 10), timeouts=Timeouts(close=0.2, write=60.0), uvloop=uvloop)
    function, target = supervisor.function_worker(), supervisor.actor()
    with joined(supervisor, function, target, receive_buffer=4096) as line:
        for _ in range(160):
            target.send(m.ClientSend((1,), b"x" * (16 << 10)))
        assert target.expect(m.Leave).reason == "slow_client"
        taken = 0
        with contextlib.suppress(ConnectionResetError):
            while received := line.recv(1 << 16):
                taken += len(received)
    assert taken < 1 << 19
