"""The fast reader beside its slow twin, plain wsproto: no byte stream, however split, tells them apart."""

from __future__ import annotations

import itertools
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsrelay.gateway.core.client_reader import ClientReader
from wsrelay.gateway.core.deflate import BoundedDeflate
from wsrelay.gateway.core.frames import (
    CloseFrame,
    Failure,
    FragmentReceived,
    Message,
    MessageReader,
    MessageWriter,
    PingReceived,
)
from wsrelay.gateway.core.masking import unmask, unmask_in_python
from wsrelay.kernel.wire.client_frames import TEXT

LIMIT = 300
OFFER = "permessage-deflate"
OFFERS = [None, OFFER, OFFER + "; client_no_context_takeover", OFFER + "; client_max_window_bits=9"]


def extensions(offer: str | None) -> list[Any]:
    if offer is None:
        return []
    extension = BoundedDeflate(LIMIT)
    assert isinstance(extension.accept(offer), str)
    return [extension]


def read_fast(reader: ClientReader, data: bytes, most: int, room: int = 1 << 20) -> list[Any]:
    """All events of these bytes, in the way of a connection."""
    events: list[Any] = []
    reader.receive(data)
    while True:
        if messages := reader.take_messages(most, room):
            assert len(messages) <= most
            events += [Message(payload.decode() if opcode == TEXT else payload) for opcode, payload in messages]
        elif (event := reader.next_event()) is not None:
            if type(event) is not FragmentReceived:
                events.append(event)
        else:
            return events


def read_slowly(reader: MessageReader, data: bytes) -> list[Any]:
    reader.receive(data)
    return list(iter(reader.next_event, None))


def compare(data: bytes, cuts: list[int], offer: str | None, most: int = 128, room: int = 1 << 20) -> list[Any]:
    fast, slow = ClientReader(LIMIT, extensions(offer)), MessageReader(LIMIT, extensions(offer))
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    everything = []
    for start, end in itertools.pairwise(edges):
        events = read_fast(fast, data[start:end], most, room)
        assert events == read_slowly(slow, data[start:end])
        assert fast.finished == slow.finished
        everything += events
    return everything


def frame(first: int, payload: bytes, *, mask: bytes = b"\x01\x80\xff\x2a", length: int | None = None) -> bytes:
    """A masked frame. `length` is how many bytes the length takes, if not as few as can be."""
    size = len(payload)
    if length is None:
        length = 0 if size < 126 else 2 if size < 1 << 16 else 8
    head = (
        struct.pack("!BB", first, 0x80 | min(size, 125))
        if length == 0
        else struct.pack("!BBH", first, 0xFE, size & 0xFFFF)
        if length == 2
        else struct.pack("!BBQ", first, 0xFF, size)
    )
    return head + mask + unmask_in_python(payload, mask)


def deflated(payload: bytes) -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -9)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def finally_deflated(payload: bytes) -> bytes:
    """The last block of it says so (RFC 7692 §7.2.3.4)."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -9)
    return compressor.compress(payload) + compressor.flush(zlib.Z_FINISH)


masks = st.binary(min_size=4, max_size=4)
payloads = (
    st.text(max_size=80).map(str.encode)
    | st.binary(max_size=40)
    | st.integers(100, LIMIT + 20).map(lambda size: b"x" * size)
    | st.integers(20, 160).map(lambda size: "ü".encode() * size)
)
messages = st.builds(
    lambda first, payload, mask: frame(first, payload, mask=mask), st.sampled_from([0x81, 0x82]), payloads, masks
)
finished = st.builds(
    lambda parts, zero: b"".join(map(finally_deflated, parts)) + b"\0" * zero,
    st.lists(payloads, min_size=1, max_size=3),
    st.booleans(),
)
compressed = st.builds(frame, st.sampled_from([0xC1, 0xC2]), finished) | st.builds(
    lambda first, payload: frame(first, deflated(payload)), st.sampled_from([0xC1, 0xC2]), payloads
)
controls = st.builds(frame, st.sampled_from([0x89, 0x8A]), st.binary(max_size=125))
closes = st.builds(
    lambda code, reason: frame(0x88, struct.pack("!H", code) + reason),
    st.sampled_from([1000, 1001, 1002, 1004, 1005, 1012, 1013, 1014, 1015, 2999, 3000, 4000, 4999, 5000, 999]),
    st.binary(max_size=20) | st.text(max_size=10).map(str.encode),
) | st.binary(max_size=1).map(lambda payload: frame(0x88, payload))
fragments = st.builds(
    lambda first, parts: b"".join(
        frame((0x80 if last == len(parts) - 1 else 0) | (0 if last else first), part) for last, part in enumerate(parts)
    ),
    st.sampled_from([1, 2]),
    st.lists(st.binary(max_size=10) | st.text(max_size=10).map(str.encode), min_size=2, max_size=4),
)
wrong = st.builds(
    frame, st.integers(0, 255), st.binary(max_size=130), mask=masks, length=st.sampled_from([None, 0, 2, 8])
) | st.binary(max_size=20)
unmasked = payloads.map(lambda payload: MessageWriter([]).encode(TEXT, payload))
usual = st.one_of(messages, messages, messages, compressed, controls, fragments)
streams = st.lists(usual, max_size=8).map(b"".join)
cuts = st.lists(st.integers(0, 3000), max_size=8)


@given(
    streams,
    st.one_of(usual, closes, wrong, unmasked),
    streams,
    cuts,
    st.sampled_from(OFFERS),
    st.sampled_from([1, 3, 128]),
    st.sampled_from([1, 100, 1 << 20]),
)
def test_no_stream_tells_the_readers_apart(  # S46, S49
    before: bytes, middle: bytes, after: bytes, cuts: list[int], offer: str | None, most: int, room: int
) -> None:
    compare(before + middle + after, cuts, offer, most, room)


@given(streams, st.sampled_from(OFFERS))
def test_bytes_one_by_one(stream: bytes, offer: str | None) -> None:
    compare(stream, list(range(len(stream))), offer)


@given(
    streams, st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=3), cuts, st.sampled_from(OFFERS)
)
def test_damaged_streams(stream: bytes, damages: list[tuple[int, int]], cuts: list[int], offer: str | None) -> None:
    damaged = bytearray(stream)
    for position, value in damages:
        if damaged:
            damaged[position % len(damaged)] = value
    compare(bytes(damaged), cuts, offer)


def test_bad_text_fails_at_the_byte_that_is_wrong() -> None:
    fast = ClientReader(LIMIT, [])
    data = frame(0x81, b"abc\xc3\x28" + b"x" * 100)
    assert read_fast(fast, data[:10], 9) == []
    assert read_fast(fast, data[10:11], 9) == [Failure(1007, "invalid data")]


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
def test_the_limit(size: int) -> None:
    events = compare(frame(0x82, bytes(size)), [], None)
    assert events == ([Message(bytes(size))] if size == LIMIT else [Failure(1009, "message too big")])


def test_a_declared_length_costs_nothing() -> None:
    reader = ClientReader(1 << 62, [])
    assert read_fast(reader, b"\x82\xff" + (1 << 61).to_bytes(8, "big") + b"\0\0\0\0abc", 9) == []


def test_a_frame_in_many_pieces() -> None:
    payload = ("äöü€😀" * 20).encode()[:LIMIT]
    data = frame(0x81, payload[:280]) * 3
    assert compare(data, list(range(0, len(data), 7)), None) == [Message(payload[:280].decode())] * 3


parts_of_messages = st.lists(
    st.tuples(st.binary(max_size=200), st.lists(st.binary(max_size=5))), min_size=1, max_size=5
)


@given(parts_of_messages, st.sampled_from(OFFERS), st.booleans())
def test_one_call_takes_one_frame(
    fragmented: list[tuple[bytes, list[bytes]]], offer: str | None, pings: bool
) -> None:  # S10
    frames: list[bytes] = []
    for whole, parts in fragmented:
        size = sum(map(len, parts))
        if size <= LIMIT and len(parts) > 1:
            frames += [frame(0 if number else 2, part) for number, part in enumerate(parts[:-1])]
            frames += [frame(0x89, b"?")] * pings + [frame(0x80, parts[-1])]
        frames.append(frame(0xC2, deflated(whole)) if offer else frame(0x82, whole))
    reader = ClientReader(LIMIT, extensions(offer))
    reader.receive(b"".join(frames))
    calls = 0
    while reader.take_messages(1, 1 << 20) or reader.next_event():
        calls += 1
    assert calls == len(frames)


@given(st.lists(st.integers(0, LIMIT), max_size=30), st.integers(1, 1000))
def test_no_more_is_inflated_than_there_is_room_for(sizes: list[int], room: int) -> None:  # invariant 11
    reader = ClientReader(LIMIT, extensions(OFFER + "; client_no_context_takeover"))
    reader.receive(b"".join(frame(0xC2, deflated(b"x" * size)) for size in sizes))
    taken: list[int] = []
    while messages := reader.take_messages(128, room):
        inflated = [len(payload) for _, payload in messages]
        assert sum(inflated[:-1]) < room
        taken += inflated
    assert taken == sizes


def test_fragments_are_told_one_by_one() -> None:  # S10
    reader = ClientReader(LIMIT, [])
    reader.receive(frame(0x01, b"a") + frame(0x00, b"") * 1000 + frame(0x89, b"") + frame(0x80, b"b"))
    events = []
    while (event := reader.next_event()) is not None:
        assert not reader.take_messages(128, 1 << 20)
        events.append(event)
    assert events == [FragmentReceived()] * 1001 + [PingReceived(b""), Message("ab")]


@given(st.binary(max_size=300), masks)
def test_both_ways_to_unmask(data: bytes, mask: bytes) -> None:
    wanted = bytes(byte ^ key for byte, key in zip(data, itertools.cycle(mask)))
    assert unmask(data, mask) == unmask_in_python(data, mask) == wanted


class Compressor:
    """A client's compression, straight from zlib: one stream, until a block is final."""

    def __init__(self) -> None:
        self._stream = zlib.compressobj(6, zlib.DEFLATED, -15)

    def message(self, parts: list[tuple[bytes, bool]], zero: bool) -> bytes:
        """The payload of a message of these parts; whether the last block of a part is final stands beside it. After a final block
        at the end there may be the rest of an empty block, or nothing."""
        payload, final = b"", False
        for part, final in parts:
            payload += self._stream.compress(part) + self._stream.flush(zlib.Z_FINISH if final else zlib.Z_SYNC_FLUSH)
            if final:
                self._stream = zlib.compressobj(6, zlib.DEFLATED, -15)
        return payload + b"\0" * zero if final else payload[:-4]


parts = st.lists(st.tuples(st.binary(min_size=1, max_size=60), st.booleans()), min_size=1, max_size=4)


@given(st.lists(st.tuples(parts, st.booleans()), min_size=1, max_size=4), st.booleans(), st.integers(1, 50), cuts)
def test_final_blocks_are_inflated_however_they_are_split(  # RFC 7692 §7.2.3.4
    sent: list[tuple[list[tuple[bytes, bool]], bool]], one_by_one: bool, piece: int, cuts: list[int]
) -> None:
    compressor = Compressor()
    stream, expected = b"", []
    for parts, zero in sent:
        payload = compressor.message(parts, zero)
        fragments = [payload[start : start + piece] for start in range(0, len(payload), piece)]
        stream += frame(0xC2 if len(fragments) == 1 else 0x42, fragments[0])
        for last, fragment in enumerate(fragments[1:], 2):
            stream += frame(0x80 if last == len(fragments) else 0, fragment)
        expected.append(Message(b"".join(part for part, _ in parts)))
    assert compare(stream, list(range(len(stream))) if one_by_one else cuts, OFFER) == expected
    assert compare(stream, [], OFFER) == expected


STREAMS = 64 + LIMIT // 256
"""Final blocks of a message."""


@pytest.mark.parametrize("cuts", [[], list(range(400)), [7], [100]])
def test_final_blocks_of_nothing_have_a_bound(cuts: list[int]) -> None:  # S10, invariant 11
    empty = finally_deflated(b"")
    assert len(empty) == 2
    allowed, more = frame(0xC2, empty * STREAMS), frame(0xC2, empty * (STREAMS + 1))
    assert compare(allowed + allowed, cuts, OFFER) == [Message(b"")] * 2
    assert compare(allowed + more, cuts, OFFER) == [Message(b""), Failure(1009, "message too big")]


@pytest.mark.parametrize("cuts", [[], list(range(3000))])
def test_a_bomb_behind_a_final_block(cuts: list[int]) -> None:  # S46
    first = finally_deflated(b"x" * 100)
    assert compare(frame(0xC2, first + deflated(bytes(LIMIT - 100))), cuts, OFFER) == [
        Message(b"x" * 100 + bytes(LIMIT - 100))
    ]
    too_big = [Failure(1009, "message too big")]
    assert compare(frame(0xC2, first + deflated(bytes(LIMIT - 99))), cuts, OFFER) == too_big
    assert compare(frame(0xC2, first + deflated(bytes(1 << 20))), cuts, OFFER) == too_big


@pytest.mark.parametrize("cuts", [[], [3], list(range(20))])
@pytest.mark.parametrize("code", [1000, 1003, 1012, 1013, 1014, 3000, 4999])
def test_close_codes_that_clients_may_send(code: int, cuts: list[int]) -> None:  # S50
    assert compare(frame(0x88, struct.pack("!H", code) + b"why"), cuts, None) == [CloseFrame(code, "why")]


@pytest.mark.parametrize("code", [999, 1004, 1005, 1006, 1015, 1016, 2999, 5000])
def test_close_codes_that_nobody_may_send(code: int) -> None:
    data = frame(0x89, struct.pack("!H", 1014)) + frame(0x88, struct.pack("!H", code))
    assert compare(data, [], None) == [PingReceived(struct.pack("!H", 1014)), Failure(1002, "protocol error")]
