"""The limits of the decoder: what a frame declares allocates nothing, and what is too large is refused."""

from __future__ import annotations

import struct
import tracemalloc
import typing

import pytest
from wsrelay.kernel.wire import messages
from wsrelay.kernel.wire.codec import ENVELOPE_ALLOWANCE, MAX_ITEMS, FrameDecoder, encode
from wsrelay.kernel.wire.errors import ProtocolViolation
from wsrelay.kernel.wire.messages import MAX_FRAME

from .streams import feed

SMALL = 1 << 10
SMALL_FRAME = 2 * (SMALL + ENVELOPE_ALLOWANCE)
SEND = b"\x94\x02"
LENGTH = struct.pack(">I", (1 << 31) - 1)
ARRAY = b"\xdd" + struct.pack(">I", MAX_ITEMS)
LIES = {
    "bin": SEND + b"\x90\xa0\xc6" + LENGTH,
    "str": SEND + b"\x91\xdb" + LENGTH,
    "array": SEND + b"\xdd" + LENGTH,
    "map": SEND + b"\xdf" + LENGTH,
    "ext": SEND + b"\x90\xa0\xc9" + LENGTH + b"\x05",
    "nested arrays": SEND + ARRAY * 1000,
    "nested arrays of 16 bits": SEND + b"\xdc\xff\xff" * 1000,
    "nested maps": SEND + (b"\xdf" + LENGTH + b"\xa1a") * 500,
    "arrays in arrays": SEND + (ARRAY + b"\x90") * 500,
}


def peak_of(decoder: FrameDecoder, pieces: typing.Iterable[bytes]) -> tuple[int, ProtocolViolation | None]:
    """Bytes that decoding took at most, over what it began with."""
    tracemalloc.start()
    try:
        for piece in pieces:
            for _ in decoder.decode(piece):
                raise AssertionError("a record")
    except ProtocolViolation as violation:
        return tracemalloc.get_traced_memory()[1], violation
    else:
        return tracemalloc.get_traced_memory()[1], None
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_declared_lengths_allocate_nothing(lie: bytes) -> None:
    peak, _ = peak_of(FrameDecoder(messages.WORKER_TO_SUPERVISOR), [lie])
    assert peak < 64 << 10


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
@pytest.mark.parametrize(
    "filling", [b"\0", b"\x90", b"\xa1a", b"\xa4aaaa"], ids=["zeros", "arrays", "strings", "texts"]
)
def test_what_makes_the_lie_true_is_refused_at_the_limit(lie: bytes, filling: bytes) -> None:
    decoder = FrameDecoder(messages.WORKER_TO_SUPERVISOR, limit=SMALL)
    block = filling * (4096 // len(filling))
    fed = 0

    def pieces() -> typing.Iterator[bytes]:
        nonlocal fed
        yield lie
        while fed < 1 << 20:
            fed += len(block)
            yield block

    peak, violation = peak_of(decoder, pieces())
    assert violation is not None
    assert fed <= SMALL_FRAME + len(block)
    assert peak < 8 * SMALL_FRAME


def test_a_frame_of_many_strings_within_their_limit_is_refused_too() -> None:
    string = b"\xc5" + struct.pack(">H", SMALL) + bytes(SMALL)
    decoder = FrameDecoder(messages.WORKER_TO_SUPERVISOR, limit=SMALL)
    peak, violation = peak_of(decoder, [SEND + ARRAY, *[string] * MAX_ITEMS])
    assert "larger than its limit" in str(violation)
    assert peak < 8 * SMALL_FRAME


@pytest.mark.parametrize("surplus", [0, 1])
def test_the_limit_of_strings_and_of_frames(surplus: int) -> None:
    table, piece = messages.GATEWAY_TO_WORKER, 1000
    for data in (b"a" * (SMALL + surplus), "a" * (SMALL + surplus)):
        frame = encode(messages.ClientMessage(1, data))
        for pieces in ([frame], [frame[:piece], frame[piece:]]):
            records, violation = feed(FrameDecoder(table, limit=SMALL), pieces)
            assert (len(records), violation is None) == (1 - surplus, not surplus)
    # 129 bytes a name, so that the whole frame has exactly the size that is allowed, or one more.
    records = [messages.Request("", "", "", (), "", tuple(("n" * 60, "v" * 65) for _ in range(900)), b"", "", "")]
    rest = SMALL_FRAME - len(encode(records[0]))
    headers = (*records[0].headers, *(("", "v" * SMALL) for _ in range(rest // (SMALL + 5))))
    record = records[0]._replace(headers=headers)
    missing = SMALL_FRAME + surplus - len(encode(record))
    record = record._replace(path="p" * (missing - 2)) if missing > 40 else record._replace(path="p" * missing)
    for _ in range(3):  # the length of `path` takes up to three bytes itself
        record = record._replace(path="p" * (len(record.path) + SMALL_FRAME + surplus - len(encode(record))))
    frame = encode(record)
    assert len(frame) == SMALL_FRAME + surplus
    for pieces in ([frame], [frame + frame[:9]], [frame[:piece], frame[piece:]], [frame[:-1], frame[-1:]]):
        received, violation = feed(FrameDecoder(table, limit=SMALL), pieces)
        assert received == [record][surplus:]
        assert (violation is None) == (not surplus)


def test_arrays_have_a_limit() -> None:
    longest = messages.ClientSend((1,) * MAX_ITEMS, b"")
    assert list(FrameDecoder(messages.WORKER_TO_GATEWAY).decode(encode(longest))) == [longest]
    too_long = encode(longest._replace(connections=(1,) * (MAX_ITEMS + 1)))
    assert feed(FrameDecoder(messages.WORKER_TO_GATEWAY), [too_long])[1] is not None


def test_the_largest_frame_passes_and_its_memory_is_given_back() -> None:
    decoder = FrameDecoder(messages.GATEWAY_TO_WORKER)
    record = messages.ClientMessage(1, bytes(MAX_FRAME))
    frame = encode(record)
    tracemalloc.start()
    try:
        assert feed(decoder, [frame[:70_000], frame[70_000:]]) == ([record], None)
        assert list(decoder.decode(encode(messages.ClientMessage(2, "after")))) == [messages.ClientMessage(2, "after")]
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()
    assert decoder.frames == 2


def test_streams_between_two_frames_hold_no_buffers() -> None:
    frame = encode(messages.ClientMessage(1, "x" * 1000))
    tracemalloc.start()
    try:
        decoders = [FrameDecoder(messages.GATEWAY_TO_WORKER) for _ in range(100)]
        for decoder in decoders:  # half a frame needs buffers of its own; the other half gives them back
            assert list(decoder.decode(frame + frame[:500])) == [messages.ClientMessage(1, "x" * 1000)]
            assert list(decoder.decode(frame[500:])) == [messages.ClientMessage(1, "x" * 1000)]
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()
