"""One connection on a transport and a worker of the test's own: what one client may take of a turn (S10)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.raw_client import frame
from wsrelay.gateway.core import session_events as e
from wsrelay.gateway.core.client_reader import ClientReader
from wsrelay.gateway.core.frames import MessageWriter
from wsrelay.gateway.core.session import Session
from wsrelay.gateway.core.session_events import Stream, Target
from wsrelay.gateway.shell.connection import RelayConnection
from wsrelay.gateway.shell.service import Service
from wsrelay.gateway.shell.stalls import StallWatch
from wsrelay.gateway.shell.turn import Turn
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.client_frames import add_messages
from wsrelay.kernel.wire.codec import FrameDecoder
from wsrelay.kernel.wire.configuration import Ping, Server
from wsrelay.kernel.wire.reason import make_reason

PID = "{node@app:gateway|00000000000000aa.g1.1}"


class Line(asyncio.Transport):
    """A client that takes everything."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.reading = True

    def write(self, data: Any) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def close(self) -> None: ...


class Link:
    """The channel of a worker that reads at once."""

    number, congested, pending, drains = 1, False, 0, 0

    def __init__(self) -> None:
        self.records: list[Any] = []

    def bind(self, serial: int, member: Any) -> None: ...

    def unbind(self, serial: int) -> None: ...

    def send(self, record: Any) -> None:
        self.records.append(record)

    def send_message(self, serial: int, record: Any) -> None:
        self.send(record)

    def send_messages(self, serial: int, prefix: bytes, messages: Any) -> None:
        pieces: list[bytes] = []
        add_messages(pieces, prefix, messages)
        self.records += FrameDecoder(m.GATEWAY_TO_WORKER).decode(b"".join(pieces))

    send_reply = send


class Around:
    """A gateway with one worker."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.turn = Turn(self.loop)
        self.stalls = StallWatch(self.loop)
        self.link = Link()
        self.workers: Any = self
        self.ended: list[Any] = []

    def get(self, number: int) -> Any:
        return self.link if number == 1 else None

    def retarget(self, connection: RelayConnection, target: str) -> None: ...

    def end(self, connection: RelayConnection, effect: Any) -> None:
        self.ended.append(effect)


def open_connection(service: Service | None = None) -> tuple[RelayConnection, Line, Around]:
    line, around = Line(), Around()
    session = Session(1, PID, Target("target", 1), Stream("ws.message", b"\x80", 0.0))
    service = service or Service(Server("app:gateway", "127.0.0.1:0"))
    connection = RelayConnection(
        around, service, line, session, ClientReader(1000, []), MessageWriter([]), lambda: None
    )
    connection.open(b"", b"")
    return connection, line, around


async def turn_of_the_loop() -> None:
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_soon(over.set_result, None)
    await over


def test_a_flood_of_tiny_frames_takes_its_turn() -> None:  # S10, S46
    async def scenario() -> None:
        connection, line, around = open_connection()
        sent = [str(number) for number in range(2000)]
        flood = b"".join(frame(9, b"") + frame(1, text.encode()) for text in sent)
        connection.data_received(flood + frame(8, b"\x03\xe8"))
        most, before = len(around.link.records), 0
        while not around.ended:
            assert not line.reading, "it reads on while it has more than it may decode"
            most = max(most, len(around.link.records) - before)
            before = len(around.link.records)
            await turn_of_the_loop()
        assert most < 200, "one turn decoded too much"
        join, *messages, leave = around.link.records
        assert isinstance(join, m.Join)
        assert messages == [m.ClientMessage(1, text) for text in sent]
        assert leave == m.Leave(1, "client_closed", 1000)
        await turn_of_the_loop()
        assert line.written == b"\x8a\0" * len(sent) + b"\x88\x02\x03\xe8"
        connection.connection_lost(None)

    asyncio.run(scenario())


@pytest.mark.parametrize("payload", [b"", b"x"])
def test_a_flood_of_fragments_takes_its_turn(payload: bytes) -> None:  # S10, S46
    async def scenario() -> None:
        connection, line, around = open_connection()
        piece = frame(0, payload, fin=False) * 9 + frame(9, b"")  # the pongs show how far it is
        connection.data_received(frame(1, b"a", fin=False) + piece * 100 + frame(0, b"b") + frame(1, b"c"))
        most, before, turns = 0, 0, 0
        while len(around.link.records) < 3:
            assert not line.reading, "it reads on while it has more than it may decode"
            await turn_of_the_loop()
            pongs = line.written.count(b"\x8a\0")
            most, before, turns = max(most, pongs - before), pongs, turns + 1
        assert most < 40, "one turn decoded too much"
        assert turns > 2
        assert around.link.records[1:] == [m.ClientMessage(1, f"a{payload.decode() * 900}b"), m.ClientMessage(1, "c")]
        await turn_of_the_loop()
        assert line.reading
        connection.connection_lost(None)

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [None, ConnectionResetError()], ids=["closed", "cut"])
def test_a_line_that_ends_in_a_flood(error: Exception | None) -> None:  # S45, S46
    async def scenario() -> None:
        connection, _, around = open_connection()
        connection.data_received(frame(1, b"x") * 1000)
        connection.connection_lost(error)
        while not around.ended:
            await turn_of_the_loop()
        assert around.link.records[-1] == m.Leave(1, "connection_lost", None)
        messages = len(around.link.records) - 2
        assert messages < 200 if error else messages == 1000
        for _ in range(20):
            await turn_of_the_loop()
        assert len(around.link.records) == messages + 2
        assert [effect.reason.kind for effect in around.ended] == ["ws_closed:1006"]

    asyncio.run(scenario())


def test_what_ends_while_a_line_that_the_client_closed_is_handed_over() -> None:  # S49
    async def scenario() -> None:
        connection, line, around = open_connection()
        connection.data_received(frame(1, b"x") * 1000)
        connection.connection_lost(None)
        before = len(line.written)
        connection.handle(e.CloseRequested(4000, ""))
        assert [effect.reason.kind for effect in around.ended] == ["ws_closed:4000"]
        for _ in range(20):
            await turn_of_the_loop()
        assert len(around.ended) == 1
        assert len(line.written) == before

    asyncio.run(scenario())


@pytest.mark.parametrize("timeout", [0.0, 60.0])
def test_a_reload_that_takes_the_pings_away(timeout: float) -> None:  # S55
    async def scenario() -> None:
        service = Service(Server("app:gateway", "127.0.0.1:0", ping=Ping(0.001, timeout)))
        connection, line, _ = open_connection(service)
        while not line.written:
            await turn_of_the_loop()
        service.update(Server("app:gateway", "127.0.0.1:0", ping=Ping(0.0, timeout)))
        connection.data_received(frame(10, b""))
        seen = before = len(line.written)
        for _ in range(50):
            await turn_of_the_loop()
            connection.data_received(frame(10, b""))
            seen = len(line.written)
        assert seen <= before + len(b"\x89\0"), "one that was due already, but no more"
        connection.connection_lost(None)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("what", "end"),
    [
        (e.RetargetGranted(Target("heir", 1)), "ws_closed:1006"),
        (e.RetargetRefused("NotFound: nobody"), "ws_closed:1006"),
        (e.CloseRequested(4000, ""), "ws_closed:4000"),
    ],
    ids=["granted", "refused", "closed"],
)
def test_a_line_that_the_client_closed_while_it_was_transferred(what: e.Event, end: str) -> None:  # S45, S47
    async def scenario() -> None:
        connection, _, around = open_connection()
        connection.handle(e.ControlRequested(Target("target", 1), "heir", None, None, None))
        connection.connection_lost(None)
        assert not around.ended
        connection.handle(what)
        assert [effect.reason.kind for effect in around.ended] == [end]
        assert around.link.records[-1].reason == ("closed" if end == "ws_closed:4000" else "connection_lost")

    asyncio.run(scenario())


@pytest.mark.parametrize("what", [e.TargetTooSlow(), e.EndRequested(make_reason("killed")), e.ShutdownStarted()])
def test_a_line_that_the_client_closed_while_its_target_did_not_read(what: e.Event) -> None:  # S30, S49, S53
    async def scenario() -> None:
        connection, _, around = open_connection()
        connection.data_received(frame(1, b"the last"))
        connection.pause_for_target()
        connection.connection_lost(None)
        assert not around.ended
        connection.handle(what)
        assert len(around.ended) == 1
        assert isinstance(around.link.records[-1], m.Leave)

    asyncio.run(scenario())
