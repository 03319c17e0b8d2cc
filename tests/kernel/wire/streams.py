"""Records of any kind, streams of them in pieces, and what a decoder makes of those."""

from __future__ import annotations

import types
import typing
from typing import Any

from hypothesis import strategies as st
from wsrelay.kernel.wire.codec import MAX_INTEGER, FrameDecoder
from wsrelay.kernel.wire.errors import ProtocolViolation

INTEGERS = st.integers(0, MAX_INTEGER) | st.sampled_from((0, 127, 128, 1 << 32, MAX_INTEGER))
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*map(values_of, arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values_of(arguments[0]), max_size=20).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, arguments))
    if hasattr(annotation, "_fields"):
        hints = typing.get_type_hints(annotation)
        return st.tuples(*(values_of(hints[name]) for name in annotation._fields)).map(annotation._make)
    return {
        int: INTEGERS,
        str: TEXT,
        bytes: st.binary(max_size=300),
        bool: st.booleans(),
        float: st.floats(allow_nan=False),
        types.NoneType: st.none(),
    }[annotation]


@st.composite
def splits(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def feed(decoder: FrameDecoder, pieces: list[bytes]) -> tuple[list[Any], ProtocolViolation | None]:
    records = []
    try:
        for piece in pieces:
            for record in decoder.decode(piece):
                records.append(record)
    except ProtocolViolation as violation:
        return records, violation
    return records, None
