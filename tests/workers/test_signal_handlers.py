"""Signal handlers of Python, and the wait that they are to interrupt: one that is due runs, whoever got the signal, and whenever it came."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.waiting import wait_until
from support.worker_lab import PEER, Ended, Lab, Worker, packed
from wsrelay.kernel.wire import messages as wire

SOURCE = f"""
import _thread, asyncio, contextlib, os, signal, threading
from wsrelay.workers import http, process

def handled(number, frame):
    process.send("{PEER}", "handled", number)

def will_come(how, latch):
    signal.signal(signal.SIGUSR1, handled)
    def come():
        open(latch).close()
        if how == "another-thread-has-got-it":
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        else:
            _thread.interrupt_main(signal.SIGUSR1)
    threading.Thread(target=come, daemon=True).start()

def waits(how, latch):
    will_come(how, latch)
    process.send("{PEER}", "waits")
    process.receive()

async def awaits(how, latch):
    will_come(how, latch)
    await process.send("{PEER}", "waits")
    await process.receive()

def forks():
    if os.fork() == 0:
        os._exit(1 + signal.set_wakeup_fd(-1))
    process.send("{PEER}", "child", os.waitstatus_to_exitcode(os.wait()[1]))

async def forks_and_comes_back():
    if os.fork() == 0:
        return
    process.send("{PEER}", "child", os.waitstatus_to_exitcode(os.wait()[1]))

async def loops():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    loop.remove_signal_handler(signal.SIGUSR1)

def runs_a_loop_of_its_own():
    asyncio.run(loops())

async def looks_for_mail():
    process.send("{PEER}", "looks")
    while True:
        try:
            return process.receive(timeout=0)
        except process.Timeout:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.01)

def looks_for_mail_in_a_loop_of_its_own():
    signal.signal(signal.SIGUSR1, handled)
    process.send("{PEER}", "took", type(asyncio.run(looks_for_mail())).__name__)

def looks():
    found = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(found)
    http.response().write_json(found >= 0)
"""


@pytest.fixture(scope="module")
def source(lab: Lab) -> str:
    return lab.source(SOURCE)


def sleeps(worker: Worker) -> bool:
    """Whether the thread of its handler does."""
    stat = Path(f"/proc/{worker.os_pid}/task/{worker.os_pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "S"


@pytest.mark.parametrize("method", ["waits", "awaits"])
@pytest.mark.parametrize("how", ["another-thread-has-got-it", "it-came-just-before-the-wait"])
def test_a_handler_that_is_due_does_not_wait_for_mail(
    lab: Lab, source: str, tmp_path: Path, how: str, method: str
) -> None:
    # Nothing interrupts the wait: the kernel has given the signal to a thread that runs no handlers, or it came when CPython had
    # looked for the last time. For the second the test has CPython note a signal, as it does when one comes, while the wait sleeps.
    latch = tmp_path / "latch"
    os.mkfifo(latch)
    with lab.start(lab.fork(), source, method, how, str(latch)) as worker:
        assert worker.message("waits") is None
        wait_until(lambda: sleeps(worker))
        os.close(os.open(latch, os.O_WRONLY))
        assert worker.message("handled") == signal.SIGUSR1
        wait_until(lambda: sleeps(worker))
        worker.tell(wire.Deliver(PEER, "topic", packed(None)))
        assert worker.end() == Ended("normal", 0)


@pytest.mark.parametrize("method", ["forks", "forks_and_comes_back"])
def test_a_forked_child_wakes_nobody(lab: Lab, source: str, method: str) -> None:  # S11
    with lab.start(lab.fork(), source, method) as worker:
        assert worker.message("child") == 0
        assert worker.end() == Ended("normal", 0)


@pytest.mark.parametrize("with_a_loop", ["loops", "runs_a_loop_of_its_own"])
def test_after_an_event_loop_signals_wake_the_next_invocation(lab: Lab, source: str, with_a_loop: str) -> None:
    with lab.function_worker() as worker:
        for serial, method in enumerate(("looks", with_a_loop, "looks"), 1000):
            pid = lab.pid(serial)
            worker.tell(wire.Invoke(pid, f"app:{method}", source, method))
            worker.serve(wire.Request(pid, "GET", "/", (), "", (), b"", "10.0.0.1", "h"))
            response = worker.expect(wire.Response)
            assert (response.status, response.body) == (200, b"true" if method == "looks" else b"")
            worker.expect(wire.InvocationEnded)


def test_what_a_handler_hears_while_an_event_loop_of_its_own_runs(lab: Lab, source: str) -> None:
    with lab.start(lab.fork(), source, "looks_for_mail_in_a_loop_of_its_own") as worker:
        assert worker.message("looks") is None
        os.kill(worker.os_pid, signal.SIGUSR1)
        assert worker.message("handled") == signal.SIGUSR1
        worker.tell(wire.CancelSignal(PEER, None))
        assert worker.message("took") == "Cancel"
        assert worker.end() == Ended("cancelled", 0)
