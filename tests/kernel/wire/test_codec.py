"""The decoder against any records, any split and any garbage."""

from __future__ import annotations

import inspect
import types
import typing
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsrelay.kernel.wire import messages
from wsrelay.kernel.wire.codec import MAX_INTEGER, FrameDecoder, encode
from wsrelay.kernel.wire.messages import DIRECTIONS, MAX_FRAME
from wsrelay.kernel.wire.reason import make_reason

from .streams import TEXT, feed, splits, values_of

RECORDS = [(table, tag, record) for table in DIRECTIONS.values() for tag, record in table.items()]
RECORD_NAMES = [record.__name__ for _, _, record in RECORDS]
FEW = settings(max_examples=max(10, settings().max_examples // 10))
"""For what is run once for each record."""


@st.composite
def streams(draw: st.DrawFn) -> tuple[dict[int, type], list[Any]]:
    table = draw(st.sampled_from(list(DIRECTIONS.values())))
    return table, draw(st.lists(st.one_of(*map(values_of, table.values())), max_size=8))


def exact_types(value: Any) -> Any:
    return (type(value), *map(exact_types, value)) if isinstance(value, tuple) else type(value)


def refused(table: dict[int, type], *frames: bytes, limit: int = MAX_FRAME) -> str:
    """Feed the frames whole, and then byte by byte: the same violation, and no record. Returns what it says."""
    records, violation = feed(FrameDecoder(table, limit=limit), [b"".join(frames)])
    again = feed(FrameDecoder(table, limit=limit), [bytes([byte]) for byte in b"".join(frames)])
    assert records == again[0] == []
    assert violation is not None
    assert str(violation) == str(again[1])
    return str(violation)


# --- the contract -----------------------------------------------------------------------------------------------------


def test_every_record_has_one_tag_and_one_direction() -> None:
    tags = [tag for _, tag, _ in RECORDS]
    assert len(tags) == len(set(tags))
    placed = [record for _, _, record in RECORDS]
    assert len(placed) == len(set(placed))
    parts = {messages.Mark, messages.WireReason}
    declared = {
        item
        for _, item in inspect.getmembers(messages, inspect.isclass)
        if hasattr(item, "_fields") and item not in parts
    }
    assert declared == set(placed)
    assert set(messages.CARRIES_DESCRIPTOR) <= set(placed)


def test_every_frame_starts_as_the_decoder_expects() -> None:
    assert all(len(record._fields) + 1 <= 15 for _, _, record in RECORDS)


@pytest.mark.parametrize(("table", "tag", "record"), RECORDS, ids=RECORD_NAMES)
@FEW
@given(data=st.data())
def test_records_come_back_equal_and_of_the_same_types(
    table: dict[int, type], tag: int, record: type, data: st.DataObject
) -> None:
    sent = data.draw(values_of(record))
    frame = encode(sent)
    assert msgpack.unpackb(frame, use_list=False) == (tag, *sent)
    (received,) = FrameDecoder(table).decode(frame)
    assert received == sent
    assert exact_types(received) == exact_types(sent)


# --- any split, any garbage -------------------------------------------------------------------------------------------


@given(data=st.data(), stream=streams())
def test_any_split_gives_the_same_records(data: st.DataObject, stream: tuple[dict[int, type], list[Any]]) -> None:
    table, sent = stream
    decoder = FrameDecoder(table)
    assert feed(decoder, data.draw(splits(b"".join(map(encode, sent))))) == (sent, None)
    assert decoder.frames == len(sent)


@given(data=st.data(), stream=streams())
def test_another_decoder_goes_on_anywhere(
    data: st.DataObject, stream: tuple[dict[int, type], list[Any]]
) -> None:  # S35
    table, sent = stream
    decoder = FrameDecoder(table, resumable=True)
    received: list[Any] = []
    for piece in data.draw(splits(b"".join(map(encode, sent)))):
        received += decoder.decode(piece)
        if data.draw(st.booleans()):
            unfinished = decoder.unfinished
            decoder = FrameDecoder(table, resumable=True)
            assert list(decoder.decode(unfinished)) == []
    assert (received, decoder.unfinished) == (sent, b"")


@given(data=st.data(), stream=streams(), garbage=st.binary(min_size=1, max_size=300))
def test_garbage_gives_the_records_before_it_and_one_violation(
    data: st.DataObject, stream: tuple[dict[int, type], list[Any]], garbage: bytes
) -> None:
    table, sent = stream
    at = data.draw(st.integers(0, len(sent)))
    frames = list(map(encode, sent))
    pieces = data.draw(splits(b"".join((*frames[:at], garbage, *frames[at:]))))
    decoder = FrameDecoder(table)
    records, violation = feed(decoder, pieces)
    assert records[:at] == sent[:at]
    assert decoder.frames == len(records)
    if violation is None:  # the garbage reads as records, or as the start of one that swallows the rest
        assert 0x90 < garbage[0] < 0xA0
    # Split otherwise, it is the same.
    again, violation_again = feed(FrameDecoder(table), data.draw(splits(b"".join(pieces))))
    assert again == records
    assert str(violation_again) == str(violation)


@given(
    stream=streams(),
    tail=st.sampled_from(
        (b"\xc1", b"\x00", b"\xc0", b"\x80", b"\x90", b"\xdc\0\x01\x01", b"\xdb\x7f\xff\xff\xff", b"\xd4\0\0")
    ),
)
def test_what_can_start_no_frame_is_refused_at_its_first_byte(
    stream: tuple[dict[int, type], list[Any]], tail: bytes
) -> None:
    table, sent = stream
    records, violation = feed(FrameDecoder(table), [b"".join(map(encode, sent)), tail[:1]])
    assert records == sent
    assert violation is not None


@given(data=st.data(), stream=streams())
def test_a_flipped_byte_never_gives_another_error(
    data: st.DataObject, stream: tuple[dict[int, type], list[Any]]
) -> None:
    table, sent = stream
    mangled = bytearray(b"".join(map(encode, sent)))
    if mangled:
        mangled[data.draw(st.integers(0, len(mangled) - 1))] = data.draw(st.integers(0, 255))
    records, _ = feed(FrameDecoder(table), data.draw(splits(bytes(mangled))))
    for record in records:
        assert type(record) in table.values()
        assert_declared(record)


def assert_declared(record: Any) -> None:
    """Check a record against its annotations, written anew: the oracle for the compiled checks."""
    hints = typing.get_type_hints(type(record))
    assert all(fits(hints[name], getattr(record, name)) for name in record._fields), record


def fits(annotation: Any, value: Any) -> bool:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return any(fits(arm, value) for arm in arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return type(value) is tuple and all(fits(arguments[0], item) for item in value)
    if origin is tuple:
        return type(value) is tuple and len(value) == len(arguments) and all(map(fits, arguments, value))
    if hasattr(annotation, "_fields"):
        hints = typing.get_type_hints(annotation)
        return (
            type(value) in (tuple, annotation)
            and [*map(len, (value, hints))] == [len(hints)] * 2
            and all(map(fits, hints.values(), value))
        )
    return type(value) is annotation and (annotation is not int or 0 <= value <= MAX_INTEGER)


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 64) - 1), st.floats(), TEXT, st.binary(max_size=9),
    st.sampled_from((-1, MAX_INTEGER, MAX_INTEGER + 1, (), (1,), (True,), (-1,), ("a", 1), (("a", "b"),), ((1, 2), (3,)))),
)  # fmt: skip


@pytest.mark.parametrize(("table", "tag", "record"), RECORDS, ids=RECORD_NAMES)
@FEW
@given(data=st.data())
def test_exactly_the_declared_fields_pass(table: dict[int, type], tag: int, record: Any, data: st.DataObject) -> None:
    fields = list(data.draw(values_of(record)))
    if fields:
        at = data.draw(st.integers(0, len(fields) - 1))
        if isinstance(fields[at], tuple) and fields[at] and data.draw(st.booleans()):
            inner = list(fields[at])
            inner[data.draw(st.integers(0, len(inner) - 1))] = data.draw(ODD)
            fields[at] = tuple(inner)
        else:
            fields[at] = data.draw(ODD)
    records, violation = feed(FrameDecoder(table), [msgpack.packb((tag, *fields))])
    if fits(record, tuple(fields)):
        assert violation is None
        # NaN is a float like others, and equal to nothing.
        assert repr(tuple(records[0])) == repr(tuple(fields)) or records[0] == tuple(fields)
        assert type(records[0]) is record
    else:
        assert records == []
        assert str(violation).startswith(f"{record.__name__}: ")


@pytest.mark.parametrize(("table", "tag", "record"), RECORDS, ids=RECORD_NAMES)
@FEW
@given(data=st.data())
def test_wrong_arity_and_wrong_direction(table: dict[int, type], tag: int, record: type, data: st.DataObject) -> None:
    fields = data.draw(values_of(record))
    refused(table, msgpack.packb((tag, *fields, None)))
    if fields:
        refused(table, msgpack.packb((tag, *fields[:-1])))
    for other in DIRECTIONS.values():
        if other is not table:
            assert "has no place" in refused(other, encode(fields))


@pytest.mark.parametrize("tag", [True, False, None, 1.0, "1", b"\1", -1, 0, 255, MAX_INTEGER + 1, (), (1,)])
def test_tags_that_are_none(tag: Any) -> None:
    refused(messages.WORKER_TO_SUPERVISOR, msgpack.packb((tag, 1, "")))


SEND = b"\x94\x02"


@pytest.mark.parametrize(
    "frame",
    [
        SEND + b"\x91\xa2\xc3\x28" + b"\xa0\xc4\0",  # invalid UTF-8
        SEND + b"\x91\xa3\xed\xa0\x80" + b"\xa0\xc4\0",  # a lone surrogate
        SEND + b"\x80" + b"\xa0\xc4\0",  # a map
        SEND + b"\x81\xa1a\x01" + b"\xa0\xc4\0",
        SEND + b"\x81\x90\x01" + b"\xa0\xc4\0",
        SEND + b"\x90\xa0" + b"\xd4\x05\x00",  # extension types
        SEND + b"\x90\xa0" + b"\xc7\x00\x05",
        SEND + b"\x90\xa0" + b"\xc7\x00\xff",  # timestamps
        SEND + b"\x90\xa0" + b"\xd6\xff\x00\x00\x00\x00",
        SEND + b"\xc1",
        SEND + b"\x91" * 1030,  # deeper than msgpack goes
        SEND + b"\x91" * 900 + b"\x90" + b"\xa0\xc4\0",
        b"\x92\x05" + b"\xcf" + b"\xff" * 8 + b"\xa0",
        b"\x93\x05" + b"\xcf" + b"\x80" + b"\0" * 7 + b"\xa0",  # 2 ** 63
        b"\x93\x05" + b"\xff" + b"\xa0",  # -1
        b"\x93\x05" + b"\xd3" + b"\x80" + b"\0" * 7 + b"\xa0",  # -2 ** 63
        b"\x93\x05" + b"\xc3" + b"\xa0",  # true
        b"\x93\x05" + b"\xcb" + b"\0" * 8 + b"\xa0",  # 0.0
    ],
)
def test_hostile_values(frame: bytes) -> None:
    refused(messages.WORKER_TO_SUPERVISOR, frame)


@given(st.data())
def test_what_is_unfinished_on_one_stream_is_not_seen_on_another(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 6))
    decoders = [FrameDecoder(messages.GATEWAY_TO_WORKER) for _ in range(count)]
    sent = [[messages.ClientMessage(index, f"{index} {n}" * 9) for n in range(5)] for index in range(count)]
    waiting = [data.draw(splits(b"".join(map(encode, records)))) for records in sent]
    received: list[list[Any]] = [[] for _ in range(count)]
    while left := [index for index in range(count) if waiting[index]]:
        index = data.draw(st.sampled_from(left))
        if data.draw(st.integers(0, 19)) == 0:  # and what a violation leaves is nobody's
            feed(FrameDecoder(messages.GATEWAY_TO_WORKER), [encode(sent[0][0]) + b"\x92\x01\xc1"])
        received[index] += decoders[index].decode(waiting[index].pop(0))
    assert received == sent


def test_every_kind_of_buffer_is_read() -> None:
    record = messages.ClientMessage(1, b"x" * 600_000)
    frame = encode(record) + encode(record)
    for data in (frame, bytearray(frame), memoryview(frame)):
        assert list(FrameDecoder(messages.GATEWAY_TO_WORKER).decode(data)) == [record, record]


# --- encode -----------------------------------------------------------------------------------------------------------


def test_an_encoding_error_leaves_nothing_in_the_next_frame() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode(messages.ClientMessage(1, "\ud800"))
    assert encode(messages.Shutdown()) == b"\x91\x45"


def test_only_records_can_be_encoded() -> None:
    with pytest.raises(KeyError):
        encode((1, 2))
    with pytest.raises(KeyError):
        encode(make_reason("normal"))
