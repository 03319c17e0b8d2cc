"""Function workers: one process for each invocation, one OS process for many (S57)."""

from __future__ import annotations

from typing import Any

import pytest
from support.waiting import wait_until
from support.worker_lab import PEER, Ended, Lab, Worker, connection, packed
from wsrelay.kernel.wire import messages as wire
from wsrelay.kernel.wire.reason import NORMAL, WireReason

KILLED = WireReason("killed", "", None, "killed")
SOURCE = f"""
import asyncio, os, subprocess, sys, threading, time
from wsrelay.workers import http, process
calls = 0
def hello():
    global calls
    calls += 1
    request, response = http.request(), http.response()
    response.write_json([request.query("q"), process.pid(), calls])
async def async_hello():
    await asyncio.sleep(0)
    http.response().write("async")
    await process.send("{PEER}", "topic", 1)
def mail():
    found = []
    while True:
        try:
            item = process.receive(timeout=0)
        except process.Timeout:
            break
        found.append(type(item).__name__)
    try:
        process.send("{PEER}", "topic")
    except process.NotFound:
        found.append("NotFound")
    http.response().write_json(found)
def wait_for_exit():
    process.events().receive(timeout=10)
def fail():
    http.response().write("never seen")
    raise ValueError("boom")
def exit_0():
    http.response().write("bye")
    sys.exit(0)
def exit_3(): sys.exit(3)
def relay(): http.response().relay_to("room", metadata={{"a": 1}})
def relay_and_fail(): relay(), fail()
def fail_to_relay(): http.response().relay_to("room", heartbeat_interval="often")
def returns(): return object()
def leave_thread(): threading.Thread(target=threading.Event().wait).start()
def leave_child():
    if os.fork() == 0:
        os.close(0), os.close(1), os.close(2)
        os._exit(0)
def cancelled(): process.events().receive(timeout=10)
"""


@pytest.fixture(scope="module")
def source(lab: Lab) -> str:
    return lab.source(SOURCE)


def invoke(worker: Worker, lab: Lab, source: str, method: str, serial: int = 1000, query: str = "") -> str:
    pid = lab.pid(serial)
    worker.tell(wire.Invoke(pid, f"app:{method}", source, method))
    worker.serve(wire.Request(pid, "GET", "/", (), query, (), b"", "10.0.0.1", "h"))
    return pid


def call(worker: Worker, lab: Lab, source: str, method: str, serial: int = 1000, query: str = "") -> Any:
    pid = invoke(worker, lab, source, method, serial, query)
    response = worker.expect(wire.Response)
    assert response.pid == pid
    target = "room" if method == "relay" else None  # S44
    assert worker.expect(wire.InvocationEnded) == wire.InvocationEnded(pid, WireReason(NORMAL), target)
    return response


def test_one_process_serves_many_invocations(lab: Lab, source: str) -> None:
    with lab.function_worker() as worker:
        for count in (1, 2, 3):
            response = call(worker, lab, source, "hello", 1000 + count, "q=x")
            pid = lab.pid(1000 + count)
            assert response.body == b'["x","%s",%d]' % (pid.encode(), count)
            assert response.headers == (("Content-Type", "application/json"),)
        assert call(worker, lab, source, "async_hello").body == b"async"
        assert worker.message() == 1
        assert call(worker, lab, source, "relay").headers[0][0] == "X-WS-Relay"
        assert call(worker, lab, source, "returns").status == 200


def test_request_and_invoke_come_in_any_order(lab: Lab, source: str) -> None:
    with lab.function_worker() as worker:
        pid = lab.pid(7)
        request = wire.Request(pid, "GET", "/", (), "q=1", (), b"", "a", "h")
        worker.serve(request._replace(pid=lab.pid(6)))  # of an invocation that was withdrawn
        worker.serve(request)
        worker.tell(wire.Invoke(pid, "app:hello", source, "hello"))
        assert worker.expect(wire.Response).pid == pid


def test_nothing_stays_from_one_invocation_to_the_next(lab: Lab, source: str) -> None:
    # S57: what arrives between two invocations, or was left unread, is nobody's
    dead = wire.Exit(1, PEER, KILLED, None)
    with lab.function_worker() as worker:
        assert call(worker, lab, source, "mail").body == b"[]"
        worker.expect(wire.Send)
        worker.tell(wire.Deliver(PEER, "t", packed(1)), dead, wire.CancelSignal(PEER, None))
        worker.serve(wire.Join(1, connection(1), "m", b"", False), wire.ClientMessage(1, "x"))
        assert call(worker, lab, source, "mail").body == b"[]"
        invoke(worker, lab, source, "wait_for_exit")
        worker.tell(dead, dead)
        worker.expect(wire.InvocationEnded)
        worker.expect(wire.Response)
        assert call(worker, lab, source, "mail").body == b"[]"
        assert call(worker, lab, source, "hello").status == 200


def test_a_mark_counts_the_frames_of_all_invocations(lab: Lab, source: str) -> None:
    # S14
    with lab.function_worker() as worker:
        call(worker, lab, source, "hello")
        worker.serve(wire.Leave(1, "closed", None))
        invoke(worker, lab, source, "wait_for_exit")
        worker.tell(wire.Exit(1, PEER, KILLED, wire.Mark(1, 3)))
        worker.expect(wire.InvocationEnded)


@pytest.mark.parametrize(
    ("method", "ended", "answers"),
    [
        ("fail", Ended("exception: ValueError: boom", 1), False),
        ("missing", None, False),
        ("exit_3", Ended(None, 3), False),
        ("exit_0", Ended("normal", 0), True),
        # What it leaves behind goes with its process.
        ("leave_thread", Ended("normal", 0), True),
        ("leave_child", Ended("normal", 0), True),
    ],
)
def test_endings_that_end_the_os_process(
    lab: Lab, source: str, method: str, ended: Ended | None, answers: bool
) -> None:
    # S57, S58
    with lab.function_worker() as worker:
        invoke(worker, lab, source, method)
        how = worker.end()
        assert how == (ended or Ended(how.reason, 1))
        assert not [record for record in worker.said if isinstance(record, wire.InvocationEnded)]
        assert [type(record) for record in worker.said if isinstance(record, wire.Response)] == [
            wire.Response
        ] * answers


@pytest.mark.parametrize(("method", "target"), [("fail", None), ("relay_and_fail", "room"), ("fail_to_relay", "room")])
def test_a_failure_is_reported_with_the_target_that_was_named(
    lab: Lab, source: str, method: str, target: str | None
) -> None:  # S44
    with lab.function_worker() as worker:
        invoke(worker, lab, source, method)
        assert str(worker.end().reason).startswith("exception")
        [report] = [record for record in worker.said if isinstance(record, wire.ExitReport)]
        assert report.target == target


def test_cancelled(lab: Lab, source: str) -> None:
    with lab.function_worker() as worker:
        pid = invoke(worker, lab, source, "cancelled")
        worker.tell(wire.CancelSignal(PEER, None))
        assert worker.expect(wire.InvocationEnded) == wire.InvocationEnded(pid, WireReason("cancelled"))


def test_an_invocation_whose_request_never_comes(lab: Lab, source: str) -> None:
    # S41: its gateway died after it was granted. The worker waits no longer, and serves the next gateway
    with lab.function_worker() as worker:
        for serial, gateway in ((1000, 2), (1001, 3)):
            pid = lab.pid(serial)
            worker.tell(wire.Invoke(pid, "app:hello", source, "hello"))
            if gateway == 2:
                worker.data.close()
                ended = worker.expect(wire.InvocationEnded)
                worker.replace_gateway(gateway).close()
            else:
                worker.replace_gateway(gateway).close()
                ended = worker.expect(wire.InvocationEnded)
            assert (ended.pid, ended.reason.kind, ended.reason.clean) == (pid, "cancelled", True)
        # What the dead gateway had written counts: the handler runs, and answers nobody.
        pid = invoke(worker, lab, source, "hello", 1002)
        worker.replace_gateway(4).close()
        assert worker.expect(wire.InvocationEnded) == wire.InvocationEnded(pid, WireReason(NORMAL))
        assert call(worker, lab, source, "hello", 1003).pid == lab.pid(1003)
        assert worker.said == []


def test_the_response_goes_to_the_gateway_that_asked(lab: Lab, source: str) -> None:
    # S41
    with lab.function_worker() as worker:
        pid = invoke(worker, lab, source, "wait_for_exit")
        worker.replace_gateway(2).close()
        worker.tell(wire.Exit(1, PEER, KILLED, None))
        assert worker.expect(wire.InvocationEnded).pid == pid
        response = call(worker, lab, source, "hello", 1001)
        assert response.pid == lab.pid(1001)
        assert worker.said == []


def test_an_idle_worker_ends_with_its_control_channel(lab: Lab, source: str) -> None:
    # S40: it waits for its gateway, and sees all the same that the supervisor has gone
    with lab.function_worker() as worker:
        call(worker, lab, source, "hello")
        worker.control.close()
        assert worker.wait_status() == 1


def test_an_idle_worker_takes_the_mail_of_an_invocation_that_has_ended(lab: Lab, source: str) -> None:
    # S10, S57: it is nobody's, and does not stay with the supervisor until the next invocation
    with lab.function_worker() as worker:
        call(worker, lab, source, "hello")
        for _ in range(1000):
            worker.control.send(wire.Deliver(PEER, "t", packed("x" * 1000)))
        wait_until(worker.control.flush, message="the worker to read its control channel")
        assert call(worker, lab, source, "mail").body == b"[]"
