"""A connection that is handed from one worker to the next, through a real gateway process (S47, S48)."""

from __future__ import annotations

import os
import signal
import socket
from typing import Any

import pytest
from support import raw_client
from support.pair import Pair
from wsrelay.kernel.wire import messages as m


def test_a_transfer_under_a_numbered_stream(pair: Pair) -> None:  # S47
    targets = [pair.target]
    for number in range(300):
        pair.client.send(str(number))
        if number % 50 == 25:
            targets.append(pair.supervisor.actor())
            pair.client.send(f"sync{number}")
            targets[-2].expect(m.ClientMessage, lambda record, n=number: record.data == f"sync{n}")
            targets[-2].send(m.ClientControl((1,), targets[-1].pid, f"topic{number}", None, None))
            for extra in range(5):
                pair.client.send(f"x{number}.{extra}")
            pair.supervisor.retarget(targets[-1])
    pair.client.close()
    sent = [str(number) for number in range(300)]
    received = []
    for target in targets:
        joined = target is pair.target
        while True:
            record = target.next()
            if isinstance(record, m.Join):
                assert not joined
                joined = True
            elif isinstance(record, m.Leave):
                break
            else:
                assert joined
                received.append(record.data)
        assert record.reason == ("client_closed" if target is targets[-1] else "transferred")
    assert [data for data in received if data.isdigit()] == sent
    marks = dict(pair.supervisor.ended()[2])
    assert {target.number: target.read_count for target in targets} == marks  # S14


def test_a_failed_transfer(pair: Pair) -> None:  # S48
    pair.target.send(m.ClientControl((1,), "nobody", None, None, None))
    asked = pair.supervisor.expect(m.Retarget)
    pair.supervisor.send(m.Refused(asked.request, "NotFound", "no process is registered as nobody"))
    error = pair.target.expect(m.ControlError)
    assert (error.pid, error.target) == (pair.pid, "nobody")
    pair.client.send("still here")
    assert pair.target.next() == m.ClientMessage(1, "still here")


def test_a_stranger_may_not_transfer(pair: Pair) -> None:  # S48
    stranger = pair.supervisor.actor()
    stranger.send(m.ClientControl((1,), stranger.pid, None, None, None))
    assert "only the current target" in stranger.expect(m.ControlError).error


@pytest.mark.parametrize("succeeds", [True, False])
def test_send_control_then_return(pair: Pair, succeeds: bool) -> None:  # S48
    heir = pair.supervisor.actor()
    pair.target.send(m.ClientControl((1,), heir.pid, None, None, None))
    pair.target.end("normal")
    asked = pair.supervisor.expect(m.Retarget)
    if succeeds:
        pair.supervisor.send(m.Admitted(asked.request, heir.pid, heir.number))
        heir.expect(m.Join)
        pair.client.send("hello")
        assert heir.next() == m.ClientMessage(1, "hello")
    else:
        pair.supervisor.send(m.Refused(asked.request, "NotFound", ""))
        assert pair.closed() == (1000, "normal")


@pytest.mark.parametrize("uvloop", [True, False])
def test_a_client_that_closes_as_it_is_transferred(serve: Any, uvloop: bool) -> None:  # S45, S47
    """The gateway reads the end of the client's line and the transfer in one turn of its loop."""
    supervisor = serve(uvloop=uvloop)
    target, heir = supervisor.actor(), supervisor.actor()
    client, answer = raw_client.join(supervisor, supervisor.function_worker(), target)
    with client:
        assert answer == 101
        target.expect(m.Join)
        os.kill(supervisor.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, supervisor.process.pid, os.WSTOPPED)
        client.shutdown(socket.SHUT_WR)
        target.send(m.ClientControl((1,), heir.pid, None, None, None))
        os.kill(supervisor.process.pid, signal.SIGCONT)
        supervisor.retarget(heir)
        assert target.expect(m.Leave).reason == "transferred"
        assert heir.expect(m.Leave).reason == "connection_lost"
        assert supervisor.ended()[1].kind == "ws_closed:1006"
