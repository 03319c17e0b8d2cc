"""Threads, tasks, signal handlers and forked children of a real worker: who may use its channels, and that none tears a stream."""

from __future__ import annotations

import signal

import msgpack
import psutil
from support.waiting import wait_until
from support.worker_lab import PEER, Ended, Lab, connection, packed
from wsrelay.kernel.wire import messages as wire
from wsrelay.kernel.wire.reason import WireReason

KILLED = WireReason("killed", "", None, "killed")


def test_a_forked_child_has_no_channel(lab: Lab) -> None:
    # S11
    for colour in ("", "async "):
        body = f"""
import os
from wsrelay.workers import process
{colour}def main():
    os_pid = os.fork()
    if os_pid == 0:
        try:
            process.send("{PEER}", "from the child")
        except process.ChannelLost:
            os._exit(len(os.listdir("/proc/self/fd")))
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(os_pid, 0)[1])
    sent = process.send("{PEER}", "topic", status)
"""
        with lab.actor(body) as worker:
            left = worker.message()
            assert left == (4 if not colour else 7), left  # stdio and the listing; an event loop's own
            assert worker.end() == Ended("normal", 0)


def test_other_threads_may_send_and_nothing_else(lab: Lab) -> None:
    # S11
    for colour, wait in (("", "thread.join()"), ("async ", "await asyncio.to_thread(thread.join)")):
        body = f"""
import asyncio, threading
from wsrelay.workers import process
def work():
    errors = []
    for call in (process.receive, lambda: process.monitor("{PEER}"), lambda: process.send("name", "t"),
                 lambda: process.registry.lookup("x"), lambda: process.cancel("{PEER}")):
        try:
            call()
        except process.Invalid:
            errors.append(1)
    process.send("{PEER}", "topic", [errors, process.pid()])
{colour}def main():
    thread = threading.Thread(target=work)
    thread.start()
    {wait}
"""
        with lab.actor(body) as worker:
            assert worker.message() == [[1] * 5, lab.pid(worker.number)]
            assert worker.end() == Ended("normal", 0)


def test_two_readers_of_one_async_handler(lab: Lab) -> None:
    body = f"""
import asyncio
from wsrelay.workers import process
async def mail():
    async for message in process.inbox():
        await process.send("{PEER}", "mail", message.payload)
async def main():
    reader = asyncio.ensure_future(mail())
    async for event in process.events():
        await process.send("{PEER}", "event", str(event.reason))
        if isinstance(event, process.Cancel):
            break
"""
    with lab.actor(body) as worker:
        worker.tell(wire.Deliver(PEER, "n", packed(1)))
        assert worker.message() == 1
        worker.tell(wire.Exit(1, lab.pid(77), KILLED, None))
        assert worker.message() == "killed"
        worker.serve(wire.Join(1, connection(1), "m", b"", False))
        assert worker.message() == {"client_pid": connection(1), "metadata": {}}
        worker.tell(wire.CancelSignal(PEER, 250))
        assert worker.message() == "cancelled: asked to end within 250 ms"
        assert worker.end() == Ended("cancelled", 0)


def test_a_cancelled_task_tears_no_frame(lab: Lab) -> None:
    # S11
    body = f"""
import asyncio
from wsrelay.workers import process
async def send(n):
    await process.send("{PEER}", "n", [n, "x" * 300_000])
async def main():
    for n in range(30):
        task = asyncio.ensure_future(send(n))
        await asyncio.sleep(0)
        task.cancel()
    await process.send("{PEER}", "n", ["end", ""])
"""
    with lab.actor(body) as worker:
        numbers = []
        while "end" not in numbers:
            numbers.append(worker.message()[0])
        assert numbers == [*range(30), "end"]
        assert worker.end() == Ended("normal", 0)


def test_signal_handlers_that_receive_send_and_raise(lab: Lab) -> None:
    # S6, S11: a stream of numbers stays whole while a timer's handler sends, looks up names, and raises
    body = f"""
import signal
from wsrelay.workers import process
class Late(Exception): pass
ticks = 0
armed = busy = False
def tick(number, frame):
    global ticks, busy
    if busy:  # Python runs handlers within handlers
        return
    busy = True
    ticks += 1
    process.send("{PEER}", "tick", ticks)
    busy = False
    if armed and ticks % 3 == 0:
        raise Late
def main(total):
    global armed
    signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    seen = []
    while len(seen) < total:
        try:
            armed = True
            message = process.receive()
            armed = False
            seen.append(message.payload)
        except Late:
            armed = False
    armed = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    process.send("{PEER}", "seen", [seen, ticks])
"""
    total = 3000
    with lab.actor(body, "main", total - 100) as worker:
        for start in range(0, total, 50):
            worker.tell(*[wire.Deliver(PEER, "n", packed(number)) for number in range(start, start + 50)])
            worker._read(0.001)
        while not any(record.topic == "seen" for record in worker.said if isinstance(record, wire.Send)):
            assert worker.wait_status(0) is None, worker.end()
            worker._read(0.1)
        sends = [record for record in worker.said if isinstance(record, wire.Send)]
        seen, ticks = msgpack.unpackb(sends[-1].payload)
        assert seen == sorted(set(seen))  # a raise may cost the item that was being handed over, and nothing else
        assert total - len(seen) <= 200 + ticks
        assert [msgpack.unpackb(record.payload) for record in sends[:-1]] == list(range(1, ticks + 1))
        assert worker.end() == Ended("normal", 0)


def test_a_signal_handler_may_wait_while_its_process_waits(lab: Lab) -> None:
    body = f"""
import os, signal
from wsrelay.workers import process
def handler(number, frame):
    process.registry.lookup("room")
def main():
    signal.signal(signal.SIGUSR1, handler)
    process.send("{PEER}", "ready")
    process.send("{PEER}", "got", process.receive().payload)
"""
    with lab.actor(body) as worker:
        worker.expect(wire.Send)
        # One that came just before its poll(2) would be handled by Python only after it.
        wait_until(lambda: psutil.Process(worker.os_pid).status() == psutil.STATUS_SLEEPING)
        signal.pidfd_send_signal(worker.pidfd, signal.SIGUSR1)
        request = worker.expect(wire.Lookup)
        # What the outer receive waits for is read by the inner one.
        worker.tell(wire.Deliver(PEER, "n", packed(1)), wire.Reply(request.request, None))
        assert worker.message() == 1
        assert worker.end() == Ended("normal", 0)
