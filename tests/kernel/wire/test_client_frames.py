"""The fast way to code ClientMessage and ClientSend beside its slow twin, the general codec."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsrelay.kernel.wire.client_frames import (
    BINARY,
    TEXT,
    MessageDecoder,
    SendDecoder,
    add_messages,
    encode_send,
    message_prefix,
    send_prefix,
)
from wsrelay.kernel.wire.codec import MAX_INTEGER, FrameDecoder, encode
from wsrelay.kernel.wire.messages import (
    GATEWAY_TO_WORKER,
    WORKER_TO_GATEWAY,
    ClientClose,
    ClientMessage,
    ClientSend,
    ClientTerminate,
    Heartbeat,
    Leave,
)

from . import twins
from .twins import LIMIT, cuts, damaged, damages, read

serials = st.integers(0, 300) | st.integers(0, MAX_INTEGER)
data = st.text(max_size=60) | st.binary(max_size=60) | st.integers(200, LIMIT).map(lambda size: "x" * size)
sends = st.builds(ClientSend, st.lists(serials, min_size=1, max_size=2).map(tuple), data)
others = st.builds(ClientClose, st.tuples(serials), serials, st.text(max_size=9)) | st.builds(
    ClientTerminate, st.lists(serials, max_size=3).map(tuple)
)
records = sends | sends | sends | others
from_gateway = st.builds(ClientMessage, serials, data) | st.builds(
    Heartbeat, serials, st.floats(allow_nan=False), serials
)
messages = from_gateway | st.builds(Leave, serials, st.text(max_size=9), st.none() | st.integers(0, 300))


def general(record: Any) -> Iterable[Any]:
    """The record that a PlainSend stands for."""
    if type(record) is not tuple:
        return [record]
    serial, opcode, payload = record
    return [ClientSend((serial,), payload.decode() if opcode == TEXT else payload)]


def compare(stream: bytes, cuts: list[int]) -> list[Any]:
    """What both decoders make of what a worker writes."""
    return twins.compare(SendDecoder, WORKER_TO_GATEWAY, general, stream, cuts)


def compare_messages(stream: bytes, cuts: list[int]) -> list[Any]:
    """The same for what the gateway writes."""

    def as_it_came(record: Any) -> Iterable[Any]:
        assert type(record) is not tuple
        return [record]

    return twins.compare(MessageDecoder, GATEWAY_TO_WORKER, as_it_came, stream, cuts)


@given(st.lists(records, max_size=12), cuts)
def test_the_decoders_agree_on_records(wanted: list[Any], cuts: list[int]) -> None:  # S6
    assert compare(b"".join(map(encode, wanted)), cuts) == wanted


@given(st.lists(records, max_size=4), cuts, damages)
def test_the_decoders_agree_on_damage(  # S11
    sent: list[Any], cuts: list[int], damages: list[tuple[int, int]]
) -> None:
    compare(damaged(b"".join(map(encode, sent)), damages), cuts)


@given(st.lists(records, max_size=3), st.binary(max_size=30), cuts)
def test_the_decoders_agree_on_garbage(sent: list[Any], garbage: bytes, cuts: list[int]) -> None:  # S11
    compare(b"".join(map(encode, sent)) + b"\x93\x50\x91" + garbage, cuts)


@given(st.lists(messages, max_size=12), cuts)
def test_the_decoders_agree_on_messages(wanted: list[Any], cuts: list[int]) -> None:  # S6
    assert compare_messages(b"".join(map(encode, wanted)), cuts) == wanted


@given(st.lists(messages, max_size=4), st.binary(max_size=30), cuts, damages)
def test_the_decoders_agree_on_damaged_messages(  # S11
    sent: list[Any], garbage: bytes, cuts: list[int], damages: list[tuple[int, int]]
) -> None:
    stream = b"".join(map(encode, sent)) + (b"\x93\x65" + garbage if garbage else b"")
    compare_messages(damaged(stream, damages), cuts)


@pytest.mark.parametrize(
    "frame",
    [
        (80, (1,), b"x" * (LIMIT + 1)),
        (80, (1,), "x" * (LIMIT + 1)),
        (80, (MAX_INTEGER + 1,), b""),
        (80, (-1,), b""),
        (80, ("1",), b""),
        (80, (True,), b""),
        (80, (1,), None),
        (80, (1,), b"", 1),
        (80, (1,)),
        (80, 1, b""),
    ],
)
def test_what_is_wrong_is_a_violation(frame: Any) -> None:  # S11
    good = encode(ClientSend((1,), "a"))
    stream = good + msgpack.packb(frame) + good
    for split in ([], list(range(len(stream)))):
        assert compare(stream, split) == [ClientSend((1,), "a")]


def test_text_must_be_utf8() -> None:  # S11
    stream = b"\x93\x50\x91\x01\xa2\xc3\x28"
    assert compare(stream, []) == []
    assert read(SendDecoder(WORKER_TO_GATEWAY), stream, general)[1] is not None


def test_any_head_of_a_number_and_a_string() -> None:
    numbers = [b"\x05", b"\xcc\x05", b"\xcd\0\x05", b"\xce\0\0\0\x05", b"\xcf" + bytes(7) + b"\x05"]
    strings = [
        b"\xa1x",
        b"\xd9\x01x",
        b"\xda\0\x01x",
        b"\xdb\0\0\0\x01x",
        b"\xc4\x01x",
        b"\xc5\0\x01x",
        b"\xc6\0\0\0\x01x",
    ]
    stream = b"".join(b"\x93\x50\x91" + number + string for number in numbers for string in strings)
    wanted = [ClientSend((5,), one) for _ in numbers for one in ["x"] * 4 + [b"x"] * 3]
    assert compare(stream, []) == compare(stream, list(range(len(stream)))) == wanted
    assert all(type(record) is tuple for record in SendDecoder(WORKER_TO_GATEWAY).decode(stream)), (
        "one went the slow way"
    )


def test_after_another_frame_the_fast_way_goes_on() -> None:
    stream = encode(ClientTerminate((7,))) + encode(ClientSend((1,), "a"))
    decoder = SendDecoder(WORKER_TO_GATEWAY)
    assert [*decoder.decode(stream[:3]), *decoder.decode(stream[3:])] == [ClientTerminate((7,)), (1, TEXT, b"a")]


@pytest.mark.parametrize("size", [1000, *range(1010, 1025), 5000])
def test_the_decoders_agree_on_a_long_frame_between_others(size: int) -> None:  # S6
    short, long = ClientSend((1,), "a"), ClientTerminate((7,) * size)
    sent = [short, ClientTerminate((7,)), long, short, long, long, short]
    stream = b"".join(map(encode, sent))
    assert compare(stream, []) == compare(stream, list(range(0, len(stream), 97))) == sent


def test_any_head_of_a_message() -> None:
    numbers = [b"\x05", b"\xcc\x05", b"\xcd\0\x05", b"\xce\0\0\0\x05", b"\xcf" + bytes(7) + b"\x05"]
    strings = [b"\xa1x", b"\xd9\x01x", b"\xda\0\x01x", b"\xdb\0\0\0\x01x", b"\xc4\x01x", b"\xc5\0\x01x"]
    stream = b"".join(b"\x93\x65" + number + string for number in numbers for string in strings)
    wanted = [ClientMessage(5, one) for _ in numbers for one in ["x"] * 4 + [b"x"] * 2]
    assert compare_messages(stream, []) == compare_messages(stream, list(range(len(stream)))) == wanted


@given(st.lists(messages, max_size=6), st.integers(0, 3000))
def test_reading_goes_on_in_another_decoder(sent: list[Any], cut: int) -> None:  # S35
    stream = b"".join(map(encode, sent))
    cut %= len(stream) + 1
    first = MessageDecoder(GATEWAY_TO_WORKER, resumable=True)
    got = list(first.decode(stream[:cut]))
    for kind in (MessageDecoder, FrameDecoder):
        second = kind(GATEWAY_TO_WORKER, resumable=True)
        assert list(second.decode(first.unfinished)) == []
        assert got + list(second.decode(stream[cut:])) == sent


@given(serials, data | st.integers(60_000, 70_000).map(lambda size: "x" * size))
def test_a_send_is_encoded_as_by_the_codec(serial: int, one: str | bytes) -> None:
    assert encode_send(send_prefix(serial), one) == encode(ClientSend((serial,), one))


@given(serials, st.lists(data | st.integers(60_000, 70_000).map(lambda size: b"x" * size), max_size=5))
def test_messages_are_encoded_as_by_the_codec(serial: int, messages: list[Any]) -> None:
    plain = [(TEXT, one.encode()) if isinstance(one, str) else (BINARY, one) for one in messages]
    pieces: list[bytes] = []
    size = add_messages(pieces, message_prefix(serial), plain)
    frames = b"".join(pieces)
    assert size == len(frames)
    assert frames == b"".join(encode(ClientMessage(serial, one)) for one in messages)
    decoder = FrameDecoder(GATEWAY_TO_WORKER)
    assert list(decoder.decode(frames)) == [ClientMessage(serial, one) for one in messages]
