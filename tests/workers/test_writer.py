"""No frame is ever torn, doubled or lost, whatever interrupts a send (S11)."""

from __future__ import annotations

import random
import signal
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from wsrelay.kernel.wire import messages as wire
from wsrelay.kernel.wire.channel import Channel, channel_pair
from wsrelay.kernel.wire.codec import encode
from wsrelay.kernel.wire.errors import ChannelLost, LimitExceeded
from wsrelay.workers.shell.shield import Shield
from wsrelay.workers.shell.writer import MAX_UNSENT, Writer


class Sink:
    """Reads the other end in a thread, slowly, and keeps the numbers that each sender wrote."""

    def __init__(self, end: socket.socket) -> None:
        self.numbers: dict[str, list[int]] = defaultdict(list)
        self.channel = Channel(end, wire.WORKER_TO_SUPERVISOR)
        end.setblocking(True)
        self._end = end
        self._dice = random.Random(1)
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        while not self.channel.ended and self.channel.violation is None:
            for record in self.channel.receive(self._dice.choice([1, 7, 100, 3000, 20_000])):
                assert isinstance(record, wire.Send)
                number, _, filler = record.payload.partition(b" ")
                assert not filler.strip(b"x")
                self.numbers[record.topic].append(int(number))
        while self.channel.violation is not None and self._end.recv(1 << 16):
            pass  # so that the test fails and does not hang


@contextmanager
def slow_channel() -> Iterator[tuple[Writer, Sink]]:
    """A writer whose socket takes little at once, and who reads it."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # as small as the kernel makes it
    with ours, theirs:
        sink = Sink(theirs)
        try:
            yield Writer(ours), sink
        finally:
            ours.shutdown(socket.SHUT_WR)
            sink.thread.join()


class Sender:
    """Writes numbered frames."""

    def __init__(self, writer: Writer, name: str, *, collects: bool = False) -> None:
        self.writer, self.name, self.count = writer, name, 0
        self._write = writer.collect if collects else writer.write
        self._dice = random.Random(name)

    def start(self) -> object:
        self.count += 1
        size = self._dice.choice([0, 1, 50, 5_000, 30_000])
        frame = encode(wire.Send(("pid",), self.name, b"%d %s" % (self.count, b"x" * size)))
        return self._write(frame)

    def send(self) -> None:
        self.writer.wait(self.start())  # type: ignore[arg-type]


@contextmanager
def timer_of_this_thread(handler: signal.Handlers | object, interval: float) -> Iterator[None]:
    """Like `timer`, but the signal is this thread's. One to the process may go to any thread, such as one of the test runner's,
    and a shield does not keep those out."""
    before = signal.signal(signal.SIGALRM, handler)  # type: ignore[arg-type]
    this, ended = threading.get_ident(), threading.Event()

    def send() -> None:
        while not ended.wait(interval):
            signal.pthread_kill(this, signal.SIGALRM)

    switching = sys.getswitchinterval()
    sys.setswitchinterval(interval)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        ended.set()
        sender.join()
        sys.setswitchinterval(switching)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def timer(handler: signal.Handlers | object, interval: float) -> Iterator[None]:
    """Run a Python signal handler again and again."""
    before = signal.signal(signal.SIGALRM, handler)  # type: ignore[arg-type]
    signal.setitimer(signal.ITIMER_REAL, interval, interval)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check(sink: Sink, *senders: Sender) -> None:
    assert sink.channel.violation is None
    for sender in senders:
        assert sink.numbers[sender.name] == list(range(1, sender.count + 1)), sender.name


@pytest.mark.parametrize("collects", [False, True])
def test_signal_handlers_that_send_in_the_midst_of_a_send(collects: bool) -> None:
    with slow_channel() as (writer, sink):
        main, handler = Sender(writer, "main", collects=collects), Sender(writer, "handler", collects=collects)

        busy = False

        def interrupt(number: int, frame: FrameType | None) -> None:
            nonlocal busy
            if not busy:  # Python runs handlers within handlers
                busy = True
                handler.send()
                busy = False

        with timer(interrupt, 0.0003):
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                main.send()
        writer.finish()
        assert writer.idle
    check(sink, main, handler)
    assert main.count > 50
    assert handler.count > 50


class Interrupted(Exception):
    pass


def in_our_code(frame: FrameType | None) -> bool:
    """Whether a handler has interrupted a send, rather than a finaliser or a hook of the test framework."""
    return frame is not None and Path(frame.f_code.co_filename).name in {"writer.py", "shield.py", "test_writer.py"}


@pytest.mark.parametrize("collects", [False, True])
def test_signal_handlers_that_raise_in_the_midst_of_a_send(collects: bool) -> None:
    with slow_channel() as (writer, sink):
        main = Sender(writer, "main", collects=collects)
        interrupted = 0
        armed = False

        def interrupt(number: int, frame: FrameType | None) -> None:
            if armed and in_our_code(frame):
                raise Interrupted

        with timer(interrupt, 0.0003):
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                try:
                    armed = True
                    main.send()
                    armed = False
                except Interrupted:
                    armed = False
                    interrupted += 1
        armed = False
        writer.finish()
        assert writer.idle
        assert writer._depth == 0
    # A send that raised before its frame was queued has sent nothing: its number is missing, and no other.
    numbers = sink.numbers["main"]
    assert sink.channel.violation is None
    assert numbers == sorted(set(numbers))
    assert main.count - len(numbers) <= interrupted
    assert interrupted > 50


def test_threads_that_send() -> None:
    with slow_channel() as (writer, sink):
        senders = [Sender(writer, name) for name in ("main", "a", "b")]

        def run(sender: Sender) -> None:
            for _ in range(150):
                sender.send()

        threads = [threading.Thread(target=run, args=(sender,)) for sender in senders[1:]]
        for thread in threads:
            thread.start()
        run(senders[0])
        for thread in threads:
            thread.join()
    check(sink, *senders)


def test_a_tail_is_finished_by_the_next_call() -> None:
    with slow_channel() as (writer, sink):
        main = Sender(writer, "main")
        for _ in range(100):  # an async handler's way: write, and wait for nothing
            main.start()
        main.send()
        assert writer.idle
    check(sink, main)


def test_a_peer_that_is_gone_is_no_error() -> None:
    ours, theirs = channel_pair()
    with ours:
        writer = Writer(ours)
        theirs.close()
        outgoing = writer.write(b"frame")
        assert writer.broken
        assert writer.is_out(outgoing)
        assert writer.idle
        assert writer.wait(writer.write(b"another"))


def test_what_waits_is_bounded_and_abandoned() -> None:
    ours, theirs = channel_pair()
    with ours, theirs:
        writer = Writer(ours)
        first = writer.write(bytes(MAX_UNSENT + (1 << 20)))
        assert not writer.wait(first, time.monotonic())
        with pytest.raises(LimitExceeded):
            writer.write(b"x")
        writer.abandon()
        assert writer.wait(first)


def test_nothing_follows_the_last_frame() -> None:
    ours, theirs = channel_pair()
    with ours, theirs:
        writer = Writer(ours)
        writer.write(b"x", last=True)
        with pytest.raises(ChannelLost):
            writer.write(b"y")


def test_the_shield_defers_handlers() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        shield = Shield()
        with shield:
            signal.raise_signal(signal.SIGUSR1)
            assert (seen, shield.active) == ([], True)
        assert (seen, shield.active, shield.torn) == ([signal.SIGUSR1], False, False)
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
        with pytest.raises(Interrupted), shield:
            raise Interrupted
        assert shield.torn
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_shield_bears_handlers_that_raise() -> None:
    shield = Shield()
    interrupted = 0

    def interrupt(number: int, frame: FrameType | None) -> None:
        if armed and in_our_code(frame):
            raise Interrupted

    armed = False
    with timer_of_this_thread(interrupt, 0.0002):
        until = time.monotonic() + 30
        while interrupted <= 50 and time.monotonic() < until:
            try:
                armed = True
                with shield:
                    sum(range(10))
                armed = False
            except Interrupted:
                armed = False
                interrupted += 1
    assert not shield.torn
    assert not shield.active
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert interrupted > 50
