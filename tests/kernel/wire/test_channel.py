"""Channels over real socketpairs: order, descriptors, ends and interruptions."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hygiene import open_descriptors
from wsrelay.kernel.wire.channel import SOCKET_BUFFER, Channel, channel_pair
from wsrelay.kernel.wire.codec import encode
from wsrelay.kernel.wire.errors import ProtocolViolation
from wsrelay.kernel.wire.messages import (
    SUPERVISOR_TO_GATEWAY,
    SUPERVISOR_TO_WORKER,
    WORKER_TO_SUPERVISOR,
    Deliver,
    Monitor,
    OpenData,
    OpenWorker,
    Shutdown,
)

Ends = tuple[Channel, Channel]


@contextlib.contextmanager
def channels(*, descriptors: bool = True, buffer: int | None = None) -> Iterator[Ends]:
    """A supervisor's and a worker's end; both closed afterwards, and no descriptor left."""
    before = open_descriptors()
    left, right = channel_pair()
    if buffer is not None:
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    supervisor = Channel(left, WORKER_TO_SUPERVISOR)
    worker = Channel(right, SUPERVISOR_TO_WORKER | SUPERVISOR_TO_GATEWAY, descriptors=descriptors)
    try:
        yield supervisor, worker
    finally:
        supervisor.close()
        worker.close()
        assert open_descriptors() == before


@pytest.fixture
def ends() -> Iterator[Ends]:
    with channels() as both:
        yield both


@pytest.fixture
def file() -> Iterator[int]:
    descriptor = os.memfd_create("wire")
    yield descriptor
    os.close(descriptor)


def inode(descriptor: int) -> int:
    return os.fstat(descriptor).st_ino


class WatchedSocket(socket.socket):
    """A socket that counts what is written, writes at most `most` bytes at once, and calls `interrupt` at each write."""

    writes = 0
    most: int | None = None
    interrupt: Callable[[], None] | None = None

    def _count(self) -> None:
        self.writes += 1
        if self.interrupt is not None:
            self.interrupt()

    def send(self, data: Any, flags: int = 0) -> int:
        sent = super().send(data[: self.most], flags)
        self._count()
        return sent

    def sendmsg(self, buffers: Any, ancillary: Any = (), flags: int = 0, address: Any = None) -> int:
        (data,) = buffers
        sent = super().sendmsg([data[: self.most]], ancillary, flags)
        self._count()
        return sent


def watched() -> tuple[WatchedSocket, Channel, Channel]:
    left, right = channel_pair()
    end = WatchedSocket(fileno=left.detach())
    return end, Channel(end, WORKER_TO_SUPERVISOR), Channel(right, SUPERVISOR_TO_WORKER, descriptors=True)


# --- frames and descriptors -------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.binary(max_size=200),
        st.integers(1_000, 20_000).map(bytes),
        st.just("descriptor"),
        st.just("flush"),
        st.integers(1, 5_000),  # receive so much
    ),
    max_size=60,
)


@settings(max_examples=60)
@given(steps=STEPS, most=st.none() | st.integers(1, 300), tiny=st.booleans())
def test_any_interleaving_arrives_in_order_with_the_right_descriptors(
    steps: list[Any], most: int | None, tiny: bool
) -> None:
    before = open_descriptors()
    end, supervisor, worker = watched()
    end.most = most
    if tiny:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    sent: list[tuple[Any, int | None]] = []
    received: list[tuple[Any, int | None]] = []
    frames: list[bytes] = []

    def receive(size: int) -> None:
        for record in worker.receive(size):
            identity = None
            if type(record) is OpenData:
                descriptor = worker.take_descriptor()
                identity = inode(descriptor)
                assert not os.get_inheritable(descriptor)
                os.close(descriptor)
            received.append((record, identity))
        assert worker.frames_received == len(received)

    try:
        for number, step in enumerate(steps):
            if step == "flush":
                assert supervisor.flush() == (supervisor.pending == 0)
            elif step == "descriptor":
                descriptor = os.memfd_create(f"wire {number}")
                supervisor.send(OpenData(number), descriptor)
                sent.append((OpenData(number), inode(descriptor)))
                frames.append(encode(sent[-1][0]))
                os.close(descriptor)
            elif isinstance(step, int):
                receive(step)
            else:
                supervisor.send(Deliver("", str(number), step))
                sent.append((Deliver("", str(number), step), None))
                frames.append(encode(sent[-1][0]))
            assert supervisor.frames_sent == len(sent)
            assert 0 <= supervisor.pending <= sum(map(len, frames))
        while not supervisor.flush() or len(received) < len(sent):
            receive(1 << 16)
        assert received == sent
        assert supervisor.pending == 0
        assert worker.receive() == []
        assert not worker.ended
        supervisor.close()
        assert worker.receive() == []
        assert worker.ended
        with pytest.raises(ProtocolViolation):
            worker.take_descriptor()
    finally:
        supervisor.close()
        worker.close()
    assert open_descriptors() == before


def test_pending_counts_what_is_not_written(ends: Ends) -> None:
    supervisor, worker = ends
    record = Deliver("", "", bytes(1 << 20))
    supervisor.send(record)
    whole = len(encode(record))
    assert supervisor.pending == whole
    assert not supervisor.flush()
    assert 0 < supervisor.pending < whole
    received: list[Any] = []
    while not supervisor.flush():
        received += worker.receive()
    assert supervisor.pending == 0
    assert received + worker.drain() == [record]


def test_descriptors_and_records_must_go_together(ends: Ends, file: int) -> None:
    supervisor, _ = ends
    for record, descriptor in ((OpenData(1), None), (Shutdown(), file)):
        with pytest.raises(ValueError, match="do not go together"):
            supervisor.send(record, descriptor)
    assert (supervisor.frames_sent, supervisor.pending) == (0, 0)


def test_a_frame_without_its_descriptor_is_a_violation(ends: Ends) -> None:
    supervisor, worker = ends
    supervisor.send_frame(encode(OpenData(1)))
    supervisor.flush()
    assert worker.receive() == [OpenData(1)]
    with pytest.raises(ProtocolViolation):
        worker.take_descriptor()


# --- batching ---------------------------------------------------------------------------------------------------------


def test_many_small_frames_are_one_write() -> None:
    end, supervisor, worker = watched()
    with contextlib.closing(supervisor), contextlib.closing(worker):
        sent = [Deliver("", str(number), b"x" * 50) for number in range(500)]
        for record in sent:
            supervisor.send(record)
        assert supervisor.flush()
        assert end.writes == 1
        assert worker.drain() == sent


def test_writing_much_in_small_parts_copies_nothing_twice() -> None:
    """A slow reader leaves long queues: every write must begin where the last ended, and not move what is behind."""
    end, supervisor, worker = watched()
    end.most = 4096
    with contextlib.closing(supervisor), contextlib.closing(worker):
        sent = [Deliver("", str(number), bytes(1000)) for number in range(4000)]
        for record in sent:
            supervisor.send(record)
        assert max(len(frame) for frame, _ in supervisor._unsent) < 70_000
        received: list[Any] = []
        while not supervisor.flush():
            received += worker.drain()
        assert received + worker.drain() == sent


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_all_that_a_closed_peer_wrote_is_read_and_a_torn_frame_is_dropped(ends: Ends, size: int) -> None:
    supervisor, worker = ends
    sent = [Monitor(number, "pid") for number in range(5)]
    for record in sent:
        worker.send(record)
    worker.send_frame(encode(sent[0])[:-1])
    worker.flush()
    worker.close()
    received: list[Any] = []
    while not supervisor.ended:
        received += supervisor.receive(size)
    assert received == sent
    assert supervisor.violation is None
    assert supervisor.receive() == []


@pytest.mark.parametrize("unread", [False, True], ids=["closed", "reset: closed with unread data"])
@pytest.mark.parametrize("write", [False, True], ids=["read only", "after a failed write"])
def test_what_a_dead_peer_wrote_is_still_readable(ends: Ends, unread: bool, write: bool) -> None:
    supervisor, worker = ends
    sent = [Monitor(number, "x" * 1000) for number in range(100)]
    for record in sent:
        worker.send(record)
    assert worker.flush()
    if unread:
        supervisor.send(Deliver("", "never read", b""))
        supervisor.flush()
    worker.close()
    if write:
        supervisor.send(Deliver("", "too late", b""))
        assert supervisor.flush()
        assert supervisor.broken
        assert supervisor.pending == 0
    assert not supervisor.ended
    received: list[Any] = []
    for _ in range(1000):
        received += supervisor.receive(4096)
        if supervisor.ended:
            break
    assert supervisor.ended
    assert received == sent


def test_frames_for_a_broken_channel_are_dropped(ends: Ends, file: int) -> None:
    supervisor, worker = ends
    worker.close()
    for _ in range(2):
        supervisor.send(OpenData(1), file)
        assert supervisor.flush()
        assert supervisor.broken
        assert supervisor.pending == 0
    assert supervisor.frames_sent == 2


def test_a_violation_ends_reading_but_not_the_records_before(ends: Ends) -> None:
    supervisor, worker = ends
    worker.send(Monitor(1, "a"))
    worker.send_frame(encode(Deliver("forged", "", b"")))
    worker.send(Monitor(2, "b"))
    worker.flush()
    assert supervisor.receive() == [Monitor(1, "a")]
    assert supervisor.violation is not None
    assert supervisor.frames_received == 1
    assert supervisor.receive() == supervisor.drain() == []
    assert not supervisor.ended


def test_drain_stops_at_a_peer_that_never_stops(ends: Ends) -> None:
    supervisor, worker = ends
    for _ in range(20):
        worker.send(Monitor(1, "x" * 10_000))
    worker.flush()
    some = len(supervisor.drain(1))
    assert 0 < some < 20
    assert len(supervisor.drain()) == 20 - some
    assert not supervisor.ended


def test_a_closed_channel_is_harmless(file: int) -> None:
    with channels() as (supervisor, worker):
        supervisor.send(OpenData(1), file)
        supervisor.send(Deliver("", "", bytes(SOCKET_BUFFER * 3)))
        supervisor.send(OpenData(2), file)
        assert not supervisor.flush()
        supervisor.send(OpenData(3), file)
        worker.receive()  # descriptors in flight on both sides: `channels` looks for them
        for channel in (supervisor, worker):
            channel.close()
            channel.close()
            assert channel.fileno() == -1
            assert channel.flush()
            assert channel.receive() == channel.drain() == []
            channel.send(Deliver("", "", b""))
            channel.send(OpenData(1), file)
            assert channel.pending == 0


# --- descriptors of a hostile peer, and too few of them ---------------------------------------------------------------


def test_descriptors_are_dropped_where_none_are_taken(file: int) -> None:
    left, right = channel_pair()
    supervisor = Channel(left, WORKER_TO_SUPERVISOR)
    try:
        before = open_descriptors()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file] * 200))]
        for number in range(3):
            right.sendmsg([encode(Monitor(number, "a"))], rights)
        received: list[Any] = []
        while len(received) < 3:
            received += supervisor.receive()
        assert received == [Monitor(number, "a") for number in range(3)]
        assert open_descriptors() == before
        with pytest.raises(ProtocolViolation):
            supervisor.take_descriptor()
    finally:
        supervisor.close()
        right.close()


def test_more_descriptors_than_fit_leave_none_behind(file: int) -> None:
    left, right = channel_pair()
    before = open_descriptors()
    worker = Channel(left, SUPERVISOR_TO_WORKER, descriptors=True)
    right.sendmsg([encode(OpenData(1))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file] * 200))])
    assert worker.receive() == [OpenData(1)]
    os.close(worker.take_descriptor())
    worker.close()
    right.close()
    assert open_descriptors().keys() < before.keys()


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_descriptor_that_cannot_be_received_is_missing_only_from_its_own_frame(ends: Ends) -> None:
    supervisor, worker = ends
    files = [os.memfd_create(f"wire {number}") for number in range(3)]
    inodes = [inode(descriptor) for descriptor in files]
    for number, descriptor in enumerate(files):
        supervisor.send(OpenWorker(number, ""), descriptor)
        supervisor.send(Deliver("", "after", b""))
        os.close(descriptor)
    supervisor.flush()
    records = []
    while len(records) < 1:
        records += worker.receive()
    with no_more_files():
        while len(records) < 3:
            records += worker.receive()
    records += worker.drain()
    assert records == [record for number in range(3) for record in (OpenWorker(number, ""), Deliver("", "after", b""))]
    first = worker.take_descriptor()
    with pytest.raises(OSError, match="limit on open files") as problem:
        worker.take_descriptor()
    assert problem.value.errno == errno.EMFILE
    last = worker.take_descriptor()
    assert [inode(first), inode(last)] == [inodes[0], inodes[2]]
    os.close(first)
    os.close(last)


def test_a_descriptor_that_cannot_be_duplicated_queues_nothing(ends: Ends, file: int) -> None:
    supervisor, worker = ends
    supervisor.send(Deliver("", "1", b""))
    counted = supervisor.frames_sent, supervisor.pending
    with no_more_files(), pytest.raises(OSError, match="Too many open files"):
        supervisor.send(OpenData(1), file)
    assert (supervisor.frames_sent, supervisor.pending) == counted
    supervisor.send(Deliver("", "2", b""))
    assert supervisor.flush()
    assert supervisor.pending == 0
    assert worker.drain() == [Deliver("", "1", b""), Deliver("", "2", b"")]
