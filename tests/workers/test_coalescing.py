"""Coalesced sends (S7): opted in, what a handler sends may leave together; how late, in which order, and what a kill loses."""

from __future__ import annotations

import random
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.worker_lab import PEER, Ended, Lab, Worker, connection, packed
from wsrelay.kernel.wire import messages as wire
from wsrelay.kernel.wire.configuration import HostConfiguration
from wsrelay.workers.shell.writer import MAX_COLLECTED, Writer

CLIENT = connection(7)
SCRIPT = f"""
import asyncio, os, signal, sys, threading, time
from wsrelay.workers import process

PEER, CLIENT = "{PEER}", process.Pid("{CLIENT}")

def both(number):
    process.send(PEER, "n", number)
    process.send(CLIENT, "ws.send", {{"data": str(number)}})

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def default():
    for number in range(50):
        both(number)
    die()

def killed(count):
    process.set_options(coalesce_sends=True)
    for number in range(count):
        process.send(PEER, "n", number)
    die()

def ends(how):
    process.set_options(coalesce_sends=True)
    for number in range(20):
        both(number)
    if how == "sleep":
        time.sleep(1000)
    if how == "spin":
        while True:
            pass
    if how == "receive":
        process.receive()
    if how == "raise":
        raise ValueError
    if how == "exit":
        sys.exit(3)
    if how == "option":
        process.set_options(coalesce_sends=False)
        die()

def received():
    process.set_options(coalesce_sends=True)
    for message in process.inbox():
        if message.topic == "die":
            die()
        both(message.payload)

def asks(what):
    process.set_options(coalesce_sends=True)
    both(1)
    if what == "spawn":
        process.spawn("app:x", "app:processes")
    elif what == "terminate":
        process.terminate(PEER)
    elif what == "cancel":
        process.cancel(CLIENT)
    process.receive()

def interrupted():
    process.set_options(coalesce_sends=True)
    signal.signal(signal.SIGUSR1, lambda number, frame: both(1))
    process.send(PEER, "ready")
    process.receive()

def threads():
    process.set_options(coalesce_sends=True)
    both(1)
    thread = threading.Thread(target=both, args=(2,))
    thread.start()
    thread.join()
    die()

def forks():
    process.set_options(coalesce_sends=True)
    both(1)
    if os.fork() == 0:
        try:
            both(2)
        except process.ChannelLost:
            os._exit(0)
        os._exit(1)
    os.wait()

async def awaits(how):
    process.set_options(coalesce_sends=True)
    for number in range(20):
        process.send(PEER, "n", number)
        await process.send(CLIENT, "ws.send", {{"data": str(number)}})
    if how == "sleep":
        await asyncio.sleep(1000)
    if how == "receive":
        await process.receive()
    if how == "block":
        time.sleep(1000)

def floods(size):
    process.set_options(coalesce_sends=True)
    for number in range(3):
        process.send(PEER, "n", [number, "x" * size])
    die()

def configured(opts_out):
    if opts_out:
        process.set_options(coalesce_sends=False)
    for number in range(100):
        process.send(PEER, "n", number)
    die()
"""


@pytest.fixture(scope="module")
def source(lab: Lab) -> str:
    return lab.source(SCRIPT)


def start(lab: Lab, source: str, method: str, *arguments: object) -> Worker:
    return lab.start(lab.fork(), source, method, *arguments)


def numbers(worker: Worker) -> tuple[list[int], list[int]]:
    """What a dead worker has said: to the process, and to the client."""
    to_peer = [msgpack.unpackb(record.payload) for record in worker.said if isinstance(record, wire.Send)]
    to_client = [int(record.data) for record in worker.said if isinstance(record, wire.ClientSend)]
    return to_peer, to_client


def expect_both(worker: Worker, count: int) -> None:
    for number in range(count):
        assert worker.message("n") == number
        assert worker.expect(wire.ClientSend).data == str(number)


def test_by_default_last_words_survive_a_kill(lab: Lab, source: str) -> None:  # S7
    with start(lab, source, "default") as worker:
        assert worker.end() == Ended(None, -signal.SIGKILL)
        assert numbers(worker) == (list(range(50)), list(range(50)))


@pytest.mark.parametrize("count", [1, 100, 20_000])
def test_a_kill_loses_a_tail_and_no_more(lab: Lab, source: str, count: int) -> None:  # S6, S7, S11
    with start(lab, source, "killed", count) as worker:
        assert worker.end() == Ended(None, -signal.SIGKILL)
        arrived, _ = numbers(worker)
        assert arrived == list(range(len(arrived)))


@pytest.mark.parametrize("how", ["sleep", "spin", "receive"])
def test_a_handler_that_does_not_come_back_keeps_nothing(lab: Lab, source: str, how: str) -> None:  # S7
    with start(lab, source, "ends", how) as worker:
        expect_both(worker, 20)
        assert worker.wait_status(0) is None


@pytest.mark.parametrize(
    ("how", "ended"),
    [
        ("return", Ended("normal", 0)),
        ("raise", Ended("exception: ValueError", 1)),
        ("exit", Ended(None, 3)),
        ("option", Ended(None, -signal.SIGKILL)),
    ],
)
def test_an_end_writes_everything(lab: Lab, source: str, how: str, ended: Ended) -> None:  # S7
    with start(lab, source, "ends", how) as worker:
        assert worker.end() == ended
        assert numbers(worker) == (list(range(20)), list(range(20)))


def test_what_was_sent_before_mail_was_used_up_survives_a_kill_after_that(lab: Lab, source: str) -> None:  # S7
    with lab.fork() as worker:
        lab.start(worker, source, "received")
        worker.tell(*(wire.Deliver(PEER, "n", packed(number)) for number in range(10)))
        expect_both(worker, 10)
        worker.tell(wire.Deliver(PEER, "n", packed(10)), wire.Deliver(PEER, "die", packed(None)))
        assert worker.end() == Ended(None, -signal.SIGKILL)
        for arrived in numbers(worker):
            assert arrived in ([], [10])


@pytest.mark.parametrize(("what", "kind"), [("spawn", wire.Spawn), ("terminate", wire.Terminate)])
def test_no_request_overtakes_a_send(lab: Lab, source: str, what: str, kind: type[tuple[object, ...]]) -> None:  # S6
    with start(lab, source, "asks", what) as worker:
        worker.expect(kind)
        worker.said += worker.data.receive()
        assert numbers(worker) == ([1], [1])


def test_no_command_on_the_data_channel_overtakes_a_send(lab: Lab, source: str) -> None:  # S6
    with start(lab, source, "asks", "cancel") as worker:
        worker.expect(wire.ClientCancel)
        worker.said += worker.control.receive()
        assert numbers(worker) == ([1], [1])


def test_a_signal_handler_in_a_wait_writes_at_once(lab: Lab, source: str) -> None:  # S7
    with start(lab, source, "interrupted") as worker:
        worker.message("ready")
        signal.pidfd_send_signal(worker.pidfd, signal.SIGUSR1)
        assert worker.message("n") == 1
        assert worker.expect(wire.ClientSend).data == "1"


def test_another_thread_writes_at_once_and_behind_what_is_collected(lab: Lab, source: str) -> None:  # S6, S7
    with start(lab, source, "threads") as worker:
        assert worker.end() == Ended(None, -signal.SIGKILL)
        assert numbers(worker) == ([1, 2], [1, 2])


def test_a_forked_child_writes_nothing_of_its_parents(lab: Lab, source: str) -> None:  # S11
    with start(lab, source, "forks") as worker:
        assert worker.end() == Ended("normal", 0)
        assert numbers(worker) == ([1], [1])


@pytest.mark.parametrize("how", ["sleep", "receive", "block"])
def test_an_async_handler_keeps_nothing_either(lab: Lab, source: str, how: str) -> None:  # S7
    with start(lab, source, "awaits", how) as worker:
        expect_both(worker, 20)


def test_over_the_bound_it_is_written(lab: Lab, source: str) -> None:  # S7, S10
    with start(lab, source, "floods", MAX_COLLECTED) as worker:
        assert worker.end() == Ended(None, -signal.SIGKILL)
        assert [number for number, _ in numbers(worker)[0]] == [0, 1, 2]  # type: ignore[misc]


def test_a_host_may_opt_in_for_its_handlers(tmp_path: Path) -> None:  # S7
    with Lab(HostConfiguration("app:processes", coalesce_sends=True), tmp_path) as lab:
        source = lab.source(SCRIPT)
        with start(lab, source, "configured", False) as worker:
            assert worker.end() == Ended(None, -signal.SIGKILL)
            arrived, _ = numbers(worker)
            assert arrived == list(range(len(arrived)))
        with start(lab, source, "configured", True) as worker:
            assert worker.end() == Ended(None, -signal.SIGKILL)
            assert numbers(worker)[0] == list(range(100))


# --- the writer -------------------------------------------------------------------------------------------------------


def chunks(data: st.DataObject) -> Iterator[tuple[str, bytes]]:
    for number in range(data.draw(st.integers(1, 40))):
        step = data.draw(st.sampled_from(["write", "collect", "collect", "flush", "read"]))
        yield step, b"%d " % number * data.draw(st.sampled_from([1, 100, 5000, 40_000]))


@given(st.data())
def test_written_and_collected_frames_leave_whole_and_in_order(data: st.DataObject) -> None:  # S6, S11
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        writer, sent, arrived = Writer(ours), bytearray(), bytearray()
        for step, frame in chunks(data):
            if step == "flush":
                writer.flush()
            elif step == "read":
                arrived += read(theirs, random.Random(len(sent)).randrange(1, 30_000))
            else:
                sent += frame
                getattr(writer, step)(frame)
        while not writer.flush():
            arrived += read(theirs, 1 << 20)
        while more := read(theirs, 1 << 20):
            arrived += more
        assert writer.idle
        assert arrived == sent


def read(end: socket.socket, size: int) -> bytes:
    try:
        return end.recv(size)
    except BlockingIOError:
        return b""
