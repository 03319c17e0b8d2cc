"""A fast decoder beside its slow twin, the general codec: what both make of the same bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hypothesis import strategies as st
from wsrelay.kernel.wire.codec import FrameDecoder, ScanningDecoder
from wsrelay.kernel.wire.errors import ProtocolViolation

LIMIT = 400
"""Bytes of the largest string."""

cuts = st.lists(st.integers(0, 3000), max_size=8)
"""Where a stream is split."""
damages = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=3)
"""Which bytes of a stream are others."""


def damaged(stream: bytes, damages: list[tuple[int, int]]) -> bytes:
    """The stream with other bytes in some places."""
    changed = bytearray(stream)
    for position, value in damages:
        if changed:
            changed[position % len(changed)] = value
    return bytes(changed)


def read(decoder: FrameDecoder, stream: bytes, general: Callable[[Any], Iterable[Any]]) -> tuple[list[Any], str | None]:
    """The general records that a decoder gives for a stream, and its violation."""
    records: list[Any] = []
    violation = None
    try:
        decoder.decode_into(records, stream)
    except ProtocolViolation as problem:
        violation = str(problem)
    return [one for record in records for one in general(record)], violation


def compare(
    decoder: type[ScanningDecoder],
    accepts: Mapping[int, type],
    general: Callable[[Any], Iterable[Any]],
    stream: bytes,
    cuts: list[int],
) -> list[Any]:
    """Return what both decoders make of a stream, which is the same after each piece. `general` turns what the fast one yields
    into the records that it stands for."""
    fast = decoder(accepts, limit=LIMIT, resumable=True)
    slow = FrameDecoder(accepts, limit=LIMIT, resumable=True)
    edges = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]
    everything: list[Any] = []
    for start, end in itertools.pairwise(edges):
        got, violation = read(fast, stream[start:end], general)
        wanted = read(slow, stream[start:end], lambda record: [record])
        assert repr((got, violation)) == repr(
            wanted
        )  # a damaged number may be NaN, and records of two kinds may be equal
        assert fast.frames == slow.frames
        everything += got
        if violation is not None:
            break
        assert fast.unfinished == slow.unfinished
    return everything
