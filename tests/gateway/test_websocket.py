"""A real client, a real gateway process, and workers that do what the test says: messages both ways, and how a connection ends (S45, S46, S49 to S52, S55)."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest
from support.pair import Pair
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import Limits
from wsrelay.kernel.wire.reason import make_reason


def test_messages_go_both_ways_with_their_type(pair: Pair) -> None:  # S46
    pair.client.send("täxt")
    pair.client.send(b"\x00\xff")
    pair.client.send(["in ", "pieces"])
    received = [pair.target.next() for _ in range(3)]
    assert received == [m.ClientMessage(1, "täxt"), m.ClientMessage(1, b"\x00\xff"), m.ClientMessage(1, "in pieces")]
    pair.target.send(m.ClientSend((1, 99), "täxt"), m.ClientSend((1,), b"\x00\xff"), m.ClientSend((1,), "x" * 70_000))
    assert [pair.client.recv(timeout=10) for _ in range(3)] == ["täxt", b"\x00\xff", "x" * 70_000]


def test_a_broadcast_reaches_all(open_pair: Callable[..., Pair]) -> None:
    pairs = [open_pair() for _ in range(3)]
    pairs[0].target.send(m.ClientSend(tuple(pair.serial for pair in pairs), "all"))
    assert [pair.client.recv(timeout=10) for pair in pairs] == ["all"] * 3


def test_the_clients_close_ends_it(pair: Pair) -> None:  # S45, S51
    pair.client.send("last")
    pair.client.close(4001, "done")
    assert pair.target.next() == m.ClientMessage(1, "last")
    assert pair.target.next() == m.Leave(1, "client_closed", 4001)
    connection, reason, marks = pair.supervisor.ended()
    assert (connection, reason.kind) == (pair.pid, "ws_closed:4001")
    assert dict(marks)[pair.target.number] == pair.target.read_count == 3  # S14


def test_a_cut_line(pair: Pair) -> None:  # S51
    pair.client.socket.shutdown(socket.SHUT_RDWR)
    assert pair.target.expect(m.Leave) == m.Leave(1, "connection_lost", None)
    assert pair.supervisor.ended()[1].kind == "ws_closed:1006"


@pytest.mark.parametrize(
    ("record", "code", "leave", "kind"),
    [
        (m.ClientClose((1,), 1000, "ü" * 100), 1000, "closed", "normal"),  # S50
        (m.ClientClose((1,), 4000, "go"), 4000, "closed", "ws_closed:4000"),
        (m.ClientCancel((1,), None), 1001, "cancelled", "cancelled"),  # S49, S51
        (m.ClientTerminate((1,)), 1011, "terminated", "killed"),
    ],
)
def test_a_process_ends_a_connection(pair: Pair, record: Any, code: int, leave: str, kind: str) -> None:
    pair.target.send(m.ClientSend((1,), "before"), record, m.ClientSend((1,), "after"))
    assert pair.client.recv(timeout=10) == "before"
    assert pair.closed()[0] == code
    assert pair.target.expect(m.Leave) == m.Leave(1, leave, code)
    assert pair.supervisor.ended()[1].kind == kind


def test_a_link_ends_a_connection_with_its_reason(pair: Pair) -> None:  # S51, S52
    reason = make_reason("exit:3", "secret")
    pair.supervisor.send(m.EndConnection(pair.pid, reason))
    assert pair.closed() == (1011, "exit:3")
    assert pair.target.expect(m.Leave) == m.Leave(1, "terminated", 1011)
    assert pair.supervisor.ended()[1] == reason


@pytest.mark.parametrize(
    ("kind", "restarting", "code"),
    [("normal", False, 1000), ("exception", False, 1011), ("signal:SIGKILL", False, 1011), ("exception", True, 1012)],
)
def test_the_targets_last_words_come_before_the_close(pair: Pair, kind: str, restarting: bool, code: int) -> None:
    for number in range(50):  # S14, S49
        pair.target.send(m.ClientSend((1,), str(number)))
    pair.target.end(kind, "Traceback: /secret", restarting=restarting)
    assert [pair.client.recv(timeout=10) for _ in range(50)] == [str(number) for number in range(50)]
    assert pair.closed() == (code, kind)
    marks = pair.supervisor.ended()[2]
    assert pair.target.number not in dict(marks)


def test_a_death_notice_that_is_read_first_waits_for_the_last_words(pair: Pair) -> None:  # S14
    gateway = pair.supervisor.process
    gateway.send_signal(signal.SIGSTOP)
    os.waitpid(gateway.pid, os.WUNTRACED)
    pair.supervisor.send(m.WorkerEnded(pair.target.number, pair.target.pid, make_reason("exception"), False))
    pair.target.send(*(m.ClientSend((1,), str(number) + "x" * 1000) for number in range(100)))
    pair.target.close()
    gateway.send_signal(signal.SIGCONT)
    assert [pair.client.recv(timeout=10).rstrip("x") for _ in range(100)] == [str(number) for number in range(100)]
    assert pair.closed() == (1011, "exception")


def test_a_target_that_is_an_invocation_ends_with_it(open_pair: Callable[..., Pair], supervisor: Any) -> None:
    pair = open_pair()
    worker = supervisor.function_worker()
    worker.pid = supervisor.new_pid()
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", supervisor.ports["app:gateway"], timeout=10)
    ) as other:
        other.request("GET", "/plain/x")
        supervisor.grant(worker)
        pair.target.send(m.ClientControl((1,), worker.pid, None, None, None))
        supervisor.retarget(worker)
        worker.expect(m.Join)
        supervisor.answer(worker)
        assert other.getresponse().status == 200
    assert pair.closed() == (1000, "normal")


def test_a_sign_of_life(supervisor: Any) -> None:  # S41
    supervisor.send(m.Ping(7), m.Ping(8))
    assert [supervisor.expect(m.Pong).number for _ in range(2)] == [7, 8]


def test_heartbeats_come_while_it_is_open(open_pair: Callable[..., Pair]) -> None:  # S55
    pair = open_pair(heartbeat_interval="20ms")
    first = pair.target.expect(m.Heartbeat)
    assert (first.connection, first.message_count) == (1, 0)
    pair.client.send("one")
    assert pair.target.expect(m.Heartbeat, lambda beat: beat.message_count == 1).uptime > first.uptime
    heir = pair.supervisor.actor()
    pair.target.send(m.ClientControl((1,), heir.pid, None, None, 0))
    pair.supervisor.retarget(heir)
    pair.target.expect(m.Leave)
    pair.client.send("two")
    heir.expect(m.ClientMessage)
    pair.client.close()
    heir.expect(m.Leave)
    assert not [record for record in heir.inbox if isinstance(record, m.Heartbeat)]


def test_compression_is_bounded_and_off_by_default(open_pair: Callable[..., Pair], serve: Any) -> None:
    pair = open_pair(options={"compression": "deflate"})
    assert "Sec-WebSocket-Extensions" not in pair.client.response.headers
    supervisor = serve(limits=Limits(message=100_000, compression=True))
    pair = open_pair(using=supervisor, options={"compression": "deflate"})
    assert "permessage-deflate" in pair.client.response.headers["Sec-WebSocket-Extensions"]
    pair.client.send("a" * 100_000)
    assert pair.target.next() == m.ClientMessage(1, "a" * 100_000)
    pair.target.send(m.ClientSend((1,), "b" * 100_000))
    assert pair.client.recv(timeout=10) == "b" * 100_000
    pair.client.send(b"\0" * 30_000_000)
    assert pair.closed()[0] == 1009


def test_shutdown_closes_all_with_1001(open_pair: Callable[..., Pair]) -> None:  # S49
    pairs = [open_pair(), open_pair()]
    supervisor = pairs[0].supervisor
    supervisor.send(m.Shutdown())
    for pair in pairs:
        assert pair.closed() == (1001, "shutdown")
        assert pair.target.expect(m.Leave).reason == "shutdown"
    supervisor.expect(m.ShutdownComplete)
    assert [supervisor.ended()[1].kind for _ in pairs] == ["normal", "normal"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", supervisor.ports["app:gateway"]), timeout=10)
