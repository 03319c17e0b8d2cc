"""A signal handler that interrupts a channel, wherever Python may run it: no frame is torn or lost (S11)."""

from __future__ import annotations

import contextlib
import dis
import itertools
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from wsrelay.kernel.wire.channel import Channel, channel_pair
from wsrelay.kernel.wire.messages import SUPERVISOR_TO_WORKER, WORKER_TO_SUPERVISOR, Deliver


class Interruption(Exception):
    """Raised by a signal handler."""


def interrupt(action: Callable[[], object], at: int, handler: Callable[[], None]) -> bool:
    """Do `action`, and run `handler` where a signal would make Python run it for the `at`-th time within channel.py.

    CPython looks for signals on entering a function, after a call and at the end of a loop, and nowhere else. Returns
    whether there was such a place.
    """
    seen, last = 0, ""

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal seen, last
        if not frame.f_code.co_filename.endswith("wire/channel.py"):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if last.startswith("CALL") or last in ("RESUME", "JUMP_BACKWARD"):
                seen += 1
                if seen == at:
                    handler()
            last = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return seen >= at


def send_three(most: int) -> tuple[list[Any], Channel, Channel]:
    left, right = channel_pair()
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # writes are partial
    supervisor, worker = Channel(left, WORKER_TO_SUPERVISOR), Channel(right, SUPERVISOR_TO_WORKER)
    sent = [Deliver("", str(number), bytes(most)) for number in range(3)]
    for record in sent:
        supervisor.send(record)
    return sent, supervisor, worker


def flush_all(supervisor: Channel, worker: Channel) -> list[Any]:
    received = []
    for _ in range(1000):
        if supervisor.flush():
            break
        received += worker.receive()
    assert supervisor.pending == 0
    return received + worker.drain()


@pytest.mark.parametrize("size", [10, 70_000], ids=["whole", "in parts"])
def test_no_signal_handler_that_raises_tears_a_frame(size: int) -> None:
    def handler() -> None:
        raise Interruption

    for at in itertools.count(1):
        sent, supervisor, worker = send_three(size)
        with contextlib.closing(supervisor), contextlib.closing(worker):
            try:
                done = not interrupt(supervisor.flush, at, handler)
            except Interruption:
                done = False
            supervisor.send(Deliver("", "next", b""))
            assert flush_all(supervisor, worker) == [*sent, Deliver("", "next", b"")], f"interrupted at place {at}"
            if done:
                break
    assert at > 5


@pytest.mark.parametrize("size", [10, 70_000], ids=["whole", "in parts"])
def test_no_signal_handler_that_sends_tears_a_frame(size: int) -> None:
    for at in itertools.count(1):
        sent, supervisor, worker = send_three(size)

        def handler(channel: Channel = supervisor) -> None:
            channel.send(Deliver("", "urgent", b""))
            channel.flush()

        with contextlib.closing(supervisor), contextlib.closing(worker):
            done = not interrupt(supervisor.flush, at, handler)
            assert supervisor.pending == sum(len(frame) for frame, _ in supervisor._unsent) - supervisor._offset
            urgent = [] if done else [Deliver("", "urgent", b"")]
            assert flush_all(supervisor, worker) == sent + urgent, f"interrupted at place {at}"
            if done:
                break
    assert at > 5


def test_no_signal_handler_that_sends_loses_what_is_being_sent() -> None:
    for at in itertools.count(1):
        sent, supervisor, worker = send_three(10)

        def handler(channel: Channel = supervisor) -> None:
            channel.send(Deliver("", "urgent", b""))
            channel.flush()

        with contextlib.closing(supervisor), contextlib.closing(worker):
            done = not interrupt(lambda: supervisor.send(Deliver("", "last", b"")), at, handler)  # noqa: B023
            assert supervisor.pending == sum(len(frame) for frame, _ in supervisor._unsent)
            assert supervisor.frames_sent == 5 - done
            received = flush_all(supervisor, worker)
            assert [record for record in received if record.topic != "urgent"] == [*sent, Deliver("", "last", b"")]
            assert len(received) == 5 - done, f"interrupted at place {at}"
            if done:
                break
    assert at > 5
