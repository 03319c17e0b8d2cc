"""A worker that is slow and reads on, and many clients that send without end: what waits for it is bounded, and each client has its
turn (S10, S53, invariant 11)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import zlib
from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from support.raw_client import frame
from wsrelay.gateway.core.client_reader import ClientReader
from wsrelay.gateway.core.deflate import BoundedDeflate
from wsrelay.gateway.core.frames import MessageWriter
from wsrelay.gateway.core.session import Session
from wsrelay.gateway.core.session_events import Stream, Target
from wsrelay.gateway.shell.connection import RelayConnection
from wsrelay.gateway.shell.data_channels import WorkerLink, Workers
from wsrelay.gateway.shell.service import Service
from wsrelay.gateway.shell.stalls import StallWatch
from wsrelay.gateway.shell.turn import Turn
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.codec import FrameDecoder
from wsrelay.kernel.wire.configuration import Server, Timeouts

LIMIT = 256 << 10
MESSAGE = 32 << 10
READ = 64 << 10
"""Bytes of a client that come at once."""
SHARE = (256 << 10) + MESSAGE
"""What one client hands over at most in a turn: 256 KiB, and the message that goes beyond."""


class Flooder(asyncio.Transport):
    """A client that has more to send whenever it is read: the same frames again and again."""

    def __init__(self, frames: bytes) -> None:
        super().__init__()
        self.protocol: Any = None
        self._frames = frames
        self._reading: asyncio.Handle | None = None

    def pause_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def resume_reading(self) -> None:
        self._reading = self._reading or asyncio.get_running_loop().call_soon(self._read)

    def _read(self) -> None:
        self._reading = asyncio.get_running_loop().call_soon(self._read)
        self.protocol.data_received(self._frames)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: Any) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


class Polled(Flooder):
    """One that is read when the test looks at it, as a loop looks at its sockets."""

    def __init__(self, frames: bytes) -> None:
        super().__init__(frames)
        self.reading = False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def read(self) -> None:
        if self.reading:
            self.protocol.data_received(self._frames)


class Surroundings:
    """A gateway with one worker, which reads when the test does."""

    def __init__(self, *, little: bool = False) -> None:
        """`little`: whatever a client sends at once fills the queue, and the worker empties it in a few reads."""
        self.loop = asyncio.get_running_loop()
        self.turn = Turn(self.loop)
        self.stalls = StallWatch(self.loop)
        kernel: Any = SimpleNamespace(send=lambda record: None)
        self.workers = Workers(self.loop, self.turn, kernel)
        self.workers.limit = 4 << 10 if little else LIMIT
        ours, self.worker = socket.socketpair()
        for end in (ours, self.worker):
            end.setblocking(False)
            if little:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 10)
        self.workers.open(1, "target", ours.detach())
        self.decoder = FrameDecoder(m.GATEWAY_TO_WORKER)
        self.handed: Counter[int] = Counter()
        """Messages that the worker has read, by client."""
        self.ended: list[Any] = []

    @property
    def link(self) -> WorkerLink:
        link = self.workers.get(1)
        assert link is not None
        return link

    def client(
        self,
        serial: int,
        frames: bytes,
        *,
        compressed: bool = False,
        polled: bool = False,
        early: bytes = b"",
        **fields: Any,
    ) -> RelayConnection:
        extension = BoundedDeflate(MESSAGE)
        extension.accept("permessage-deflate; client_no_context_takeover")
        extensions: list[Any] = [extension] if compressed else []
        session = Session(serial, f"{serial}", Target("target", 1), Stream("ws.message", b"\x80", 0.0))
        service = Service(Server("app:gateway", "127.0.0.1:0", **fields))
        transport, reader = (Polled if polled else Flooder)(frames), ClientReader(MESSAGE, extensions)
        around: Any = self
        connection = RelayConnection(
            around, service, transport, session, reader, MessageWriter(extensions), lambda: None
        )
        connection.open(b"", early)
        return connection

    def read(self, size: int) -> None:
        """The worker reads so much, if it is there."""
        with contextlib.suppress(BlockingIOError):
            records = self.decoder.decode(self.worker.recv(size))
            self.handed.update(record.connection for record in records if isinstance(record, m.ClientMessage))

    def end(self, connection: RelayConnection, effect: Any) -> None:
        self.ended.append(effect)

    def close(self, connections: list[RelayConnection]) -> None:
        for connection in connections:
            connection._transport.pause_reading()
            connection.connection_lost(None)
        self.workers.remove(1)
        self.worker.close()


@contextlib.contextmanager
def clients(around: Surroundings, *frames: tuple[bytes, bool], **fields: Any) -> Iterator[list[RelayConnection]]:
    opened = [
        around.client(serial, data, compressed=compressed, **fields)
        for serial, (data, compressed) in enumerate(frames, 1)
    ]
    try:
        yield opened
    finally:
        around.close(opened)


async def turn_of_the_loop() -> None:
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_soon(over.set_result, None)
    await over


def bombs(size: int) -> tuple[bytes, bool]:
    """So many bytes of compressed messages, each of 32 KiB when it is inflated."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = (compressor.compress(bytes(MESSAGE)) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    one = frame(2, payload, rsv=0x40)
    return one * (size // len(one)), True


PLAIN = frame(2, bytes(8 << 10)) * 8, False
TINY = frame(2, bytes(100)) * 600, False
FRAGMENTED = (frame(2, bytes(4 << 10), fin=False) + frame(0, bytes(4 << 10))) * 8, False


@pytest.mark.parametrize(
    ("floods", "wanted"),
    [
        ([bombs(READ)] * 40, 20),
        ([PLAIN] * 40, 20),
        ([TINY] * 40, 1000),
        ([FRAGMENTED] * 40, 20),
        ([PLAIN, bombs(READ)] * 20, 20),
    ],
    ids=["compressed", "plain", "tiny", "fragmented", "plain and compressed"],
)
def test_what_waits_for_a_slow_worker_is_bounded_and_everybody_has_a_turn(
    floods: list[tuple[bytes, bool]], wanted: int
) -> None:
    async def scenario() -> None:
        around = Surroundings()
        with clients(around, *floods):
            most, turns, bound = 0, 0, LIMIT + SHARE
            while min(around.handed[serial] for serial in range(1, 41)) < wanted and turns < 20_000 and most <= bound:
                around.read(16 << 10)
                await turn_of_the_loop()
                most, turns = max(most, around.link.pending), turns + 1
            assert most <= bound
            assert around.workers.stalls > 3, "the worker was not slow"
            assert turns < 20_000, f"somebody is never served: {sorted(around.handed.items())}"
            assert around.ended == []

    asyncio.run(scenario())


def test_one_client_hands_over_no_more_than_its_share() -> None:
    async def scenario() -> None:
        around = Surroundings()
        with clients(around, bombs(READ)) as [connection]:
            most = 0
            for _ in range(2000):
                around.read(4 << 10)
                await turn_of_the_loop()
                most = max(most, around.link.pending)
            assert most <= LIMIT + SHARE
            assert connection.has_unread
            assert around.handed[1] > 3

    asyncio.run(scenario())


@pytest.mark.parametrize("pieces", [1, 2])
def test_final_blocks_of_nothing_take_their_turn(pieces: int) -> None:  # S10
    async def scenario() -> None:
        around = Surroundings()
        empty = b"\3\0" * 190  # as many as a message may have; each is two bytes, and costs as much as 256
        one = frame(2, empty, rsv=0x40)
        if pieces == 2:
            one = frame(2, empty[:99], rsv=0x40, fin=False) + frame(0, empty[99:])
        with clients(around, (one * 60, True)) as [connection]:
            most = before = 0
            while around.link.frames_sent < 1 + 60:
                await turn_of_the_loop()
                most, before = max(most, around.link.frames_sent - before), around.link.frames_sent
            two_turns = 2 * (SHARE // (190 * 256) + 1)  # waiting for one takes another
            assert most <= two_turns < 60, "one turn inflated too much"
            assert connection.session.is_open

    asyncio.run(scenario())


def test_who_waits_for_a_turn_does_not_wait_for_a_target_that_is_stuck() -> None:  # S53
    async def scenario() -> None:
        around = Surroundings()
        with clients(around, bombs(READ), bombs(READ), timeouts=Timeouts(stall=60.0)) as connections:
            while not around.link.congested:
                await turn_of_the_loop()
            # What the timer does when it is due: the target has let somebody go on since, or it has not.
            around.link.relieved_at = around.loop.time()
            for connection in connections:
                connection._stall_due()
            assert [connection.session.is_open for connection in connections] == [True, True]
            around.link.relieved_at = around.loop.time() - 61.0
            for connection in connections:
                connection._stall_due()
            assert [connection.session.ending for connection in connections] == [("timeout", 1013)] * 2

    asyncio.run(scenario())


def test_the_death_of_a_worker_lets_everybody_go_on() -> None:  # S14
    async def scenario() -> None:
        around = Surroundings()
        with clients(around, *[bombs(READ), PLAIN] * 5) as connections:
            while not around.link.congested:
                await turn_of_the_loop()
            assert not any(connection.reads for connection in connections)
            around.workers.remove(1)
            for _ in range(5):
                await turn_of_the_loop()
            assert not any(connection._congested for connection in connections)

    asyncio.run(scenario())


def look_at(connections: list[RelayConnection]) -> None:
    """Read the clients' sockets, in the order of their numbers, as a loop does that asks `poll`."""
    for connection in connections:
        transport: Any = connection._transport
        transport.read()


def test_in_which_order_the_loop_looks_at_sockets_overtakes_nobody() -> None:  # S53, invariant 11
    async def scenario() -> None:
        around = Surroundings(little=True)
        connections = [around.client(serial, PLAIN[0], polled=True) for serial in range(1, 6)]
        for _ in range(2000):
            look_at(connections)
            around.read(64 << 10)
            await turn_of_the_loop()
        served = [around.handed[serial] for serial in range(1, 6)]
        around.close(connections)
        assert around.workers.stalls > 20, "the worker was not slow"
        assert max(served) <= min(served) + 2 * 8, f"somebody was overtaken again and again: {served}"

    asyncio.run(scenario())


def test_a_client_that_comes_new_waits_behind_those_whose_turn_comes() -> None:  # S53, invariant 11
    async def scenario() -> None:
        around = Surroundings(little=True)
        connections = [around.client(serial, PLAIN[0], polled=True) for serial in range(1, 4)]
        look_at(connections)
        most = 0
        for serial in range(4, 2000):
            around.read(64 << 10)
            await turn_of_the_loop()
            if not around.link.congested:
                connections.append(around.client(serial, b"", polled=True, early=PLAIN[0]))
            look_at(connections)
            most = max(most, around.link.pending)
        served = [around.handed[serial] for serial in range(1, 4)]
        came = len(connections)
        around.close(connections)
        assert came > 20
        assert min(served) > 8, f"those who came later were served instead: {served}"
        assert most <= (4 << 10) + 2 * len(PLAIN[0])

    asyncio.run(scenario())


@pytest.mark.parametrize("pings", [0, 500], ids=["nothing", "pings"])
def test_clients_that_hand_nothing_over_do_not_all_go_on_in_one_turn(pings: int) -> None:  # S10
    async def scenario() -> None:
        around = Surroundings()
        idle = [around.client(serial, frame(9, b"") * pings, polled=True) for serial in range(1, 1201)]
        flood = around.client(1201, PLAIN[0] * 8, polled=True)
        look_at([*idle, flood])
        assert around.link.congested
        most = before = 0
        while before < len(idle):
            around.read(64 << 10)
            await turn_of_the_loop()
            free = sum(not connection._congested for connection in idle)
            most, before = max(most, free - before), free
        around.close([*idle, flood])
        assert most <= len(idle) / 2

    asyncio.run(scenario())
