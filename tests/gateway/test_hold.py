"""Held connections in a real gateway, where the supervisor and the workers do what the test says (S56, S44)."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

from support.raw_client import GET, connect, frame, join, status
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import Limits, Timeouts
from wsrelay.kernel.wire.reason import make_reason


def text(payload: bytes) -> bytes:
    return frame(1, payload)


def hold(supervisor: Any, function: Any, target: Any) -> tuple[socket.socket, str]:
    """A client whose connection may be held for long, with much; and its PID."""
    client, answer = join(
        supervisor, function, target, target_pid="room", on_exit="hold", hold={"for": "60s", "bytes": 1 << 20}
    )
    assert answer == 101
    joined: m.Join = target.expect(m.Join)
    assert supervisor.expect(m.Joined) == m.Joined(joined.pid)  # S44
    return client, joined.pid


def pong(client: socket.socket) -> None:
    """Have the gateway read all that was sent."""
    client.sendall(b"\x89\x80\0\0\0\0")
    assert client.recv(2, socket.MSG_WAITALL) == b"\x8a\x00"


def test_many_resume_with_a_process_that_does_not_read_yet(serve: Any) -> None:
    # S10, S17, S53: what was kept goes out as it is read; a hung process is not dead, and floods nobody
    supervisor = serve(limits=Limits(inbound=50_000))
    function, old = supervisor.function_worker(), supervisor.actor()
    with contextlib.ExitStack() as stack:
        held = [hold(supervisor, function, old) for _ in range(12)]
        for client, _ in held:
            stack.enter_context(client)
        old.end("exception", restarting=True)
        sent = [f"{number:03}" + "x" * 5000 for number in range(20)]
        for client, pid in held:
            assert supervisor.expect(m.AwaitService) == m.AwaitService(pid, "room")
            client.sendall(b"".join(text(message.encode()) for message in sent))
            pong(client)
        new = supervisor.actor()
        for _, pid in held:
            supervisor.send(m.ServiceReturned(pid, new.pid, new.number))
        held[0][0].sendall(text(b"last"))
        received: dict[int, list[Any]] = {serial: [] for serial in range(1, len(held) + 1)}
        for _ in range(12 * 21 + 1):
            record = new.next()
            received[record.connection].append(record)
        for serial, (joined, *messages) in received.items():
            assert (joined.pid, joined.resumed) == (held[serial - 1][1], True)
            assert [message.data for message in messages] == (sent if serial > 1 else [*sent, "last"])
        supervisor.pump(0)
        assert not [record for record in supervisor.inbox if isinstance(record, m.ReportViolation)]


def test_a_process_that_cannot_be_reached_is_not_what_was_waited_for(supervisor: Any) -> None:  # S43
    function, old = supervisor.function_worker(), supervisor.actor()
    client, pid = hold(supervisor, function, old)
    with client:
        old.end("exception", restarting=True)
        assert supervisor.expect(m.AwaitService).connection == pid
        deaf = supervisor.new_pid()
        supervisor.send(m.ServiceReturned(pid, deaf, 99))  # its channel never came
        client.sendall(text(b"kept"))
        pong(client)
        supervisor.send(m.WorkerEnded(99, deaf, make_reason("noconnection"), True))
        assert supervisor.expect(m.AwaitService) == m.AwaitService(pid, "room")
        new = supervisor.actor()
        supervisor.send(m.ServiceReturned(pid, new.pid, new.number))
        assert new.next().resumed
        assert new.next().data == "kept"


def test_what_is_sent_to_a_broken_channel_is_kept(supervisor: Any) -> None:
    # between the end of the dead process's channel and the notice of its death
    function, old = supervisor.function_worker(), supervisor.actor()
    client, pid = hold(supervisor, function, old)
    with client:
        old.close()
        assert supervisor.expect(m.ReportLost).worker == old.number
        client.sendall(text(b"one") + text(b"two"))
        old.end("exception", restarting=True, close=False)
        assert supervisor.expect(m.AwaitService).connection == pid
        new = supervisor.actor()
        supervisor.send(m.ServiceReturned(pid, new.pid, new.number))
        assert new.next().resumed
        assert [new.next().data, new.next().data] == ["one", "two"]


def test_an_answer_that_comes_too_late_leaves_no_target_behind(serve: Any) -> None:  # S44, S58
    supervisor = serve(timeouts=Timeouts(request=0.2))
    function, target = supervisor.function_worker(), supervisor.new_pid()
    with connect(supervisor, GET % b"/ws/lobby") as client:
        supervisor.grant(function)
        assert status(client) == 504
        assert supervisor.expect(m.TerminateInvocation).pid == function.pid
        function.send(m.Response(function.pid, 200, (("X-WS-Relay", json.dumps({"target_pid": target})),), b""))
        assert supervisor.expect(m.Abandon) == m.Abandon(target, function.pid, None)
