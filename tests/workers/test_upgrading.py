"""Hand-over and listening in real workers, blocking and async, with the test in the place of the supervisor (S10, S35)."""

from __future__ import annotations

import array
import os
import signal
import socket

import pytest
from support.worker_lab import PEER, Ended, Lab, Worker, connection, packed
from wsrelay.kernel.wire import messages as wire
from wsrelay.kernel.wire.channel import channel_pair
from wsrelay.kernel.wire.codec import encode

SCRIPT = f"""
import asyncio, atexit, os, signal, sys
from wsrelay.workers import process

PEER = "{PEER}"

def tell(topic, payload):
    process.send(PEER, topic, payload)

def old():
    atexit.register(tell, "atexit", None)
    try:
        process.inbox().receive()  # the join
        message = process.inbox().receive()
        tell("old", message.payload["data"])
        process.monitor(PEER)
        process.upgrade("app:new", 7)
    finally:
        tell("finally", None)

async def async_old():
    await process.inbox().receive()  # the join
    message = await process.inbox().receive()
    await process.send(PEER, "old", message.payload["data"])
    await process.monitor(PEER)
    await process.upgrade("app:new", 7)

def new(number):
    tell("new", number)
    process.monitor(PEER)
    for message in process.inbox():
        tell(message.topic, message.payload)

def listens():
    jobs = process.listen("job")
    def interrupt(number, frame):
        process.unlisten("job")
    signal.signal(signal.SIGUSR1, interrupt)
    for message in jobs:  # ends in the midst of a wait
        tell("listened", message.payload)
    for message in process.inbox():
        tell("inbox", message.payload)

async def async_listens():
    jobs = process.listen("job")
    async def take():
        async for message in jobs:
            await process.send(PEER, "listened", message.payload)
    task = asyncio.create_task(take())
    stop = process.listen("stop")
    await stop.receive()
    process.unlisten("job")
    await task
    async for message in process.inbox():
        await process.send(PEER, "inbox", message.payload)
"""


@pytest.fixture(scope="module")
def source(lab: Lab) -> str:
    return lab.source(SCRIPT)


def resume(lab: Lab, source: str, old: Worker, state: int) -> Worker:
    """Fork the new code, with the old one's data channel."""
    worker = lab.fork(open_data=False)
    worker.data.close()
    worker.data = old.data
    start = wire.Start(old.number, lab.pid(old.number), "app:processes", "app:new", source, "new", packed([7]), 1 << 20)
    worker.tell(wire.Resume(start), descriptor=state)
    return worker


@pytest.mark.parametrize("method", ["old", "async_old"])
def test_half_a_frame_goes_along(lab: Lab, source: str, method: str) -> None:
    # S6, S19, S35
    ours, theirs = channel_pair()
    with ours, theirs, lab.start(lab.fork(), source, method) as old:
        old.serve(wire.Join(1, connection(1), "chat", b"", False))
        half = encode(wire.ClientMessage(1, "half " * 100))
        old.data.send_frame(encode(wire.ClientMessage(1, "whole")) + half[:50])
        old.data.flush()
        if method == "old":
            assert old.expect(wire.Send, "old").payload is not None
        ref = old.answer(wire.Monitor).request
        old.tell(wire.Deliver(PEER, "mail", packed(1)))
        upgrade = old.expect(wire.Upgrade)
        assert (upgrade.entry, upgrade.arguments) == ("app:new", packed([7]))
        assert upgrade.request > ref
        old.tell(wire.HandOver(upgrade.request), descriptor=ours.fileno())
        assert old.end() == Ended(None, 0)
        assert type(old.said[-1]) is wire.HandedOver, "no `finally` and no atexit callback has run"
        new = resume(lab, source, old, theirs.fileno())
        with new:
            assert new.message("new") == 7
            request = new.answer(wire.Monitor).request
            assert request > upgrade.request, "a new ref is never an old one"
            new.data.send_frame(half[50:])
            new.data.flush()
            messages = [new.message() for _ in range(2)]
            topics = {message.get("data") if isinstance(message, dict) else message for message in messages}
            assert topics == {1, "half " * 100}
            new.serve(wire.ClientMessage(1, "next"))
            assert new.message("chat")["data"] == "next"


def test_what_cannot_be_handed_over_is_an_end(lab: Lab, source: str) -> None:
    # S12, S35
    ours, theirs = channel_pair()
    theirs.close()
    with ours, lab.start(lab.fork(), source, "old") as old:
        old.serve(wire.Join(1, connection(1), "chat", b"", False), wire.ClientMessage(1, "whole"))
        old.expect(wire.Send, "old")
        old.answer(wire.Monitor)
        old.tell(wire.HandOver(old.expect(wire.Upgrade).request), descriptor=ours.fileno())
        ended = old.end()
        assert ended.code == 1
        assert str(ended.reason).startswith("exception: not handed over to the new code")


def test_what_cannot_be_taken_over_is_an_end(lab: Lab, source: str) -> None:
    # S12, S35
    ours, theirs = channel_pair()
    with lab.start(lab.fork(), source, "old") as old:
        memory = os.memfd_create("garbage")
        os.write(memory, b"garbage")
        with ours, theirs:
            _send_descriptor(ours, memory)
            os.close(memory)
            with resume(lab, source, old, theirs.fileno()) as new:
                ended = new.end()
                assert ended.code == 1
                assert str(ended.reason).startswith("exception: what the old code has left cannot be read")


def _send_descriptor(end: socket.socket, descriptor: int) -> None:
    end.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))])


def test_unlisten_ends_who_waits(lab: Lab, source: str) -> None:
    for method in ("listens", "async_listens"):
        with lab.start(lab.fork(), source, method) as worker:
            worker.tell(*(wire.Deliver(PEER, "job", packed(n)) for n in range(2)))
            assert [worker.message("listened") for _ in range(2)] == [0, 1]
            if method == "listens":
                os.kill(worker.os_pid, signal.SIGUSR1)
            else:
                worker.tell(wire.Deliver(PEER, "stop", packed(None)))
            worker.tell(wire.Deliver(PEER, "other", packed(2)))
            assert worker.message("inbox") == 2
            worker.tell(wire.Deliver(PEER, "job", packed(3)))
            assert worker.message("inbox") == 3
