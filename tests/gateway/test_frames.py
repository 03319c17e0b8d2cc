"""Frames in and out, whatever the split, with and without compression, against wsproto as a client."""

from __future__ import annotations

import itertools
import sys
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate
from wsrelay.gateway.core.deflate import BoundedDeflate
from wsrelay.gateway.core.frames import (
    CloseFrame,
    Failure,
    Message,
    MessageReader,
    MessageWriter,
    PingReceived,
    close_code_is_valid,
    cut_reason,
    encode_close,
    encode_ping,
    encode_pong,
)
from wsrelay.kernel.wire.client_frames import BINARY, TEXT

LIMIT = 1000


def negotiated(offer: str = "permessage-deflate; client_max_window_bits") -> tuple[BoundedDeflate, PerMessageDeflate]:
    server, client = BoundedDeflate(LIMIT), PerMessageDeflate()
    answer = server.accept(offer)
    assert isinstance(answer, str)
    client.finalize("permessage-deflate; " + answer if answer else "permessage-deflate")
    return server, client


def read(reader: MessageReader, data: bytes, cuts: list[int]) -> list[Any]:
    events = []
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    for start, end in itertools.pairwise(edges):
        reader.receive(data[start:end])
        while (event := reader.next_event()) is not None:
            events.append(event)
    return events


def as_payload(message: str | bytes) -> tuple[int, bytes]:
    return (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)


pieces = st.lists(st.text(max_size=300) | st.binary(max_size=300), max_size=6)
cuts = st.lists(st.integers(0, 10_000), max_size=12)


@given(pieces, cuts, st.booleans(), st.booleans())
def test_messages_survive_any_split(
    messages: list[str | bytes], cuts: list[int], compress: bool, fragment: bool
) -> None:
    ours, theirs = negotiated() if compress else (None, None)
    client = Connection(ConnectionType.CLIENT, [theirs] if theirs else [])
    data = b""
    for message in messages:
        kind: Any = TextMessage if isinstance(message, str) else BytesMessage
        if fragment:  # with a control frame between the fragments
            half = len(message) // 2
            data += client.send(kind(data=message[:half], message_finished=False))
            data += client.send(Ping(payload=b"between"))
            data += client.send(kind(data=message[half:]))
        else:
            data += client.send(kind(data=message))
    data += client.send(CloseConnection(code=1000, reason="done"))
    events = read(MessageReader(LIMIT, [ours] if ours else []), bytes(data), cuts)
    wanted = []
    for message in messages:
        if len(message.encode() if isinstance(message, str) else message) > LIMIT:
            assert events[-1] == Failure(1009, "message too big")
            return
        wanted += ([PingReceived(b"between")] if fragment else []) + [Message(message)]
    assert events == [*wanted, CloseFrame(1000, "done")]


@given(st.binary(max_size=400), cuts, st.booleans())
def test_garbage_gives_events_and_at_most_one_failure(data: bytes, cuts: list[int], compress: bool) -> None:
    reader = MessageReader(LIMIT, [negotiated()[0]] if compress else [])
    events = read(reader, data, cuts)
    assert not any(isinstance(event, (Failure, CloseFrame)) for event in events[:-1])
    for event in events:
        if isinstance(event, Message):
            assert len(event.data) <= LIMIT
        if isinstance(event, Failure):
            assert event.code in (1002, 1007, 1009)
            assert reader.finished


@given(pieces, st.booleans())
def test_what_we_send_a_client_can_read(messages: list[str | bytes], compress: bool) -> None:
    ours, theirs = negotiated() if compress else (None, None)
    writer = MessageWriter([ours] if ours else [])
    client = Connection(ConnectionType.CLIENT, [theirs] if theirs else [])
    data = (
        b"".join(writer.encode(*as_payload(message)) for message in messages)
        + encode_ping(b"a")
        + encode_pong(b"b")
        + encode_close(1001, "ü" * 99)
    )
    client.receive_data(data)
    events = list(client.events())
    received = [event.data for event in events if isinstance(event, (TextMessage, BytesMessage))]
    assert received == messages
    assert events[-1] == CloseConnection(code=1001, reason="ü" * 61)


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_lengths(size: int) -> None:
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(MessageWriter([]).encode(BINARY, b"x" * size))
    assert b"".join(bytes(event.data) for event in client.events() if isinstance(event, BytesMessage)) == b"x" * size


def test_a_compressed_bomb_is_not_inflated() -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = bomb.compress(bytes(50_000_000)) + bomb.flush(zlib.Z_SYNC_FLUSH)
    extension, _ = negotiated()
    payload = data[:-4]
    head = bytes([0xC2, 0xFE]) + len(payload).to_bytes(2, "big") if len(payload) < 65536 else b""
    assert head
    reader = MessageReader(LIMIT, [extension])
    reader.receive(head + b"\0\0\0\0" + payload)
    tracemalloc.start()
    try:
        assert reader.next_event() == Failure(1009, "message too big")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_offers_that_are_no_offers_are_declined() -> None:
    assert BoundedDeflate(LIMIT).accept("permessage-deflate; client_max_window_bits=x") is None
    assert BoundedDeflate(LIMIT).accept("permessage-deflate; server_max_window_bits=7") is None


def test_close_codes_and_reasons() -> None:  # S49, S50
    valid = {code for code in range(5100) if close_code_is_valid(code)}
    assert valid == {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}
    assert encode_close(None) == b"\x88\x00"
    assert cut_reason("ü" * 100) == "ü" * 61


def test_fragments_without_end_take_no_memory() -> None:  # invariant 11
    reader = MessageReader(1_000_000, [])
    events, most = [], 0
    for data in (b"\x01\x80\0\0\0\0", *[b"\x00\x80\0\0\0\0" * 100] * 50, *[b"\x00\x81\0\0\0\0x" * 100] * 50):
        events += read(reader, data, [])
        most = max(most, sys.getsizeof(reader._collected))
    assert most < 10_000
    assert events == []
    assert read(reader, b"\x80\x82\0\0\0\0\xc3\xbc", []) == [Message("x" * 5000 + "ü")]
    assert read(reader, b"\x02\x80\0\0\0\0\x80\x80\0\0\0\0", []) == [Message(b"")]
