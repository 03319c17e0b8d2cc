"""How a worker says that it has ended, for each way to end."""

from __future__ import annotations

import os
import signal

import msgpack
import pytest
from support.worker_lab import PEER, Ended, Lab
from wsrelay.kernel.wire import messages as wire
from wsrelay.kernel.wire.reason import MAX_VALUE

SOURCE = f"""
import atexit, asyncio, os, signal, sys
from wsrelay.workers import process

def value(*args): return {{"got": list(args)}}
async def async_value(*args):
    await asyncio.sleep(0)
    return {{"got": list(args)}}
def nothing(): pass
def unpackable(): return {{"a": [object()]}}
def too_big(): return bytes({MAX_VALUE + 1})
def fail():
    def inner(): raise ValueError("boom\\nmore")
    inner()
async def async_fail():
    await asyncio.sleep(0)
    raise ValueError("boom")
def surrogate(): raise ValueError("\\udc80")
def broken_str():
    class Broken(Exception):
        def __str__(self): raise RuntimeError
    raise Broken
def interrupt(): raise KeyboardInterrupt
def recursion(): recursion()
def exit_none(): sys.exit()
def exit_0(): sys.exit(0)
def exit_3(): sys.exit(3)
async def async_exit_3(): sys.exit(3)
def exit_text(): sys.exit("why")
def os_exit(): os._exit(0)
def segfault():
    import ctypes
    ctypes.string_at(0)
def kill(): os.kill(os.getpid(), signal.SIGKILL)
def cancelled():
    event = process.events().receive(timeout=10)
    assert isinstance(event, process.Cancel), event
    return event.sender
def unread_cancel():
    process.inbox().receive(timeout=10)
    return 1
def thread():
    import threading
    threading.Thread(target=threading.Event().wait).start()
    return "not waited for"
def at_exit():
    atexit.register(process.send, "{PEER}", "bye", None)
not_callable = 1
"""


@pytest.fixture(scope="module")
def source(lab: Lab) -> str:
    return lab.source(SOURCE)


@pytest.mark.parametrize(
    ("method", "ended"),
    [
        # S18
        ("nothing", Ended("normal", 0)),
        ("exit_none", Ended("normal", 0)),
        ("exit_0", Ended("normal", 0)),
        ("exit_3", Ended(None, 3)),
        ("async_exit_3", Ended(None, 3)),
        ("exit_text", Ended(None, 1)),
        ("os_exit", Ended(None, 0)),
        ("segfault", Ended(None, -signal.SIGSEGV)),
        ("kill", Ended(None, -signal.SIGKILL)),
        ("fail", Ended("exception: ValueError: boom", 1)),
        ("async_fail", Ended("exception: ValueError: boom", 1)),
        ("surrogate", Ended("exception: ValueError: ?", 1)),
        ("broken_str", Ended("exception: Broken", 1)),
        ("interrupt", Ended("exception: KeyboardInterrupt", 1)),
        ("thread", Ended("normal", 0)),
    ],
)
def test_endings(lab: Lab, source: str, method: str, ended: Ended) -> None:
    with lab.start(lab.fork(), source, method) as worker:
        assert worker.end() == ended
        assert not [record for record in worker.said if not isinstance(record, wire.ExitReport)]


@pytest.mark.parametrize("method", ["value", "async_value"])
def test_the_value_goes_along(lab: Lab, source: str, method: str) -> None:
    with lab.start(lab.fork(), source, method, 1, "two", None) as worker:
        assert worker.end() == Ended("normal", 0)
        assert msgpack.unpackb(worker.report.value) == {"got": [1, "two", None]}


@pytest.mark.parametrize(
    ("method", "kind", "text"),
    [
        ("unpackable", "Invalid", "the returned value['a'][0] is of type object"),
        ("too_big", "LimitExceeded", str(MAX_VALUE)),
        ("recursion", "RecursionError", ""),
        ("missing", "ImportError", "has no 'missing'"),
        ("not_callable", "ImportError", "expected a function"),
    ],
)
def test_exceptions_name_their_cause(lab: Lab, source: str, method: str, kind: str, text: str) -> None:
    with lab.start(lab.fork(), source, method) as worker:
        ended = worker.end()
        assert ended.code == 1
        assert worker.report.detail.startswith(f"{kind}: ")
        assert text in worker.report.detail


def test_the_traceback_is_the_users(lab: Lab, source: str) -> None:
    for method in ("fail", "async_fail"):
        with lab.start(lab.fork(), source, method) as worker:
            worker.end()
            lines = worker.report.error.splitlines()
            assert lines[0] == "Traceback (most recent call last):"
            assert f", in {method}" in lines[1], worker.report.error
            assert "shell" not in worker.report.error


def test_import_errors_are_exits(lab: Lab) -> None:
    # S3
    with lab.actor("import no_such_module") as worker:
        assert worker.end() == Ended("exception: ModuleNotFoundError: No module named 'no_such_module'", 1)
        assert "app.py" in worker.report.error
        assert "importlib" not in worker.report.error
    with lab.actor("def broken(:") as worker:
        worker.end()
        assert worker.report.detail.startswith("SyntaxError")
    with lab.start(lab.fork(), "file:///no/such/file.py", "main") as worker:
        assert worker.end() == Ended("exception: ImportError: there is no source file /no/such/file.py", 1)


def test_cancelled_is_for_a_cancel_that_was_received(lab: Lab, source: str) -> None:
    # S18, S29
    with lab.start(lab.fork(), source, "cancelled") as worker:
        worker.tell(wire.CancelSignal(PEER, None))
        assert worker.end() == Ended("cancelled", 0)
        assert msgpack.unpackb(worker.report.value) == PEER
    with lab.start(lab.fork(), source, "unread_cancel") as worker:
        worker.tell(wire.CancelSignal(PEER, None), wire.Deliver(PEER, "go", b"\xc0"))
        assert worker.end() == Ended("normal", 0)


def test_the_report_is_the_last_frame(lab: Lab, source: str) -> None:
    with lab.start(lab.fork(), source, "at_exit") as worker:
        assert worker.end() == Ended("normal", 0)
        assert [type(record) for record in worker.said] == [wire.Send, wire.ExitReport]


def test_a_worker_without_a_supervisor_ends(lab: Lab, source: str) -> None:
    # S40: its channel ends before and after it has been started
    with lab.fork() as worker:
        worker.control.close()
        assert worker.wait_status() == 1
    with lab.start(lab.fork(), source, "unread_cancel") as worker:
        worker.control.close()
        assert worker.wait_status() == 1


def test_a_worker_is_a_child_of_the_supervisor_in_its_own_session(lab: Lab, source: str) -> None:
    # S13: the wait status is the supervisor's
    with lab.fork() as worker:
        assert os.getpgid(worker.os_pid) == lab.host.pid  # found there until it has been started
        lab.start(worker, source, "cancelled")
        worker.tell(wire.CancelSignal(PEER, None))
        assert worker.end().code == 0
    with lab.actor(
        f"""
import os, threading
from wsrelay.workers import process
def main():
    process.send("{PEER}", "facts", [
        os.getsid(0) == os.getpid(), os.getppid(), sorted(os.listdir("/proc/self/fd"), key=int),
        os.readlink("/proc/self/fd/0"), threading.get_native_id() == os.getpid()])
    process.receive()
"""
    ) as worker:
        own_session, parent, descriptors, stdin, same_id = worker.message()
        assert own_session
        assert parent == os.getpid()
        assert len(descriptors) == 8, descriptors  # stdio, control, data, the two of the wake, and the listing itself
        assert stdin == "/dev/null"
        assert same_id
