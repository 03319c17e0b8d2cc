"""Frames: from records to bytes and back.

Bytes are hostile until decoded. Whatever a peer writes, `FrameDecoder` gives either records of the channel's direction,
with every field of the declared type, or one `ProtocolViolation`; and it allocates no more than the declared limits.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgpack

from .errors import ProtocolViolation
from .messages import DIRECTIONS, MAX_FRAME

ENVELOPE_ALLOWANCE = 64 << 10
"""Bytes that a frame may have beside its largest string."""
MAX_ITEMS = 200_000
"""Elements of one array on the wire: destinations of a message, mostly."""
MAX_INTEGER = (1 << 63) - 1

_TAGS: dict[type, int] = {record: tag for records in DIRECTIONS.values() for tag, record in records.items()}


def encode(record: tuple[Any, ...]) -> bytes:
    """Return the frame of a record of `messages`. Raises UnicodeEncodeError for text that is no UTF-8 (lone surrogates)."""
    frame: bytes = msgpack.packb((_TAGS[type(record)], *record))
    return frame


Check = Callable[[Any], Any]


def _check_integer(value: Any) -> int:
    if type(value) is int and 0 <= value <= MAX_INTEGER:
        return value
    raise ValueError(f"expected a non-negative integer, got {type(value).__name__}")


def _check_exact(expected: type) -> Check:
    def check(value: Any) -> Any:
        if type(value) is expected:
            return value
        raise ValueError(f"expected {expected.__name__}, got {type(value).__name__}")

    return check


def _check_union(arms: tuple[Any, ...]) -> Check:
    checks = [_check_for(arm) for arm in arms if arm is not type(None)]
    optional = type(None) in arms

    def check(value: Any) -> Any:
        if value is None and optional:
            return None
        error: ValueError | None = None
        for arm in checks:
            try:
                return arm(value)
            except ValueError as problem:
                error = problem
        raise error or ValueError("no value fits")

    return check


def _check_sequence(element: Check) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if type(value) is not tuple:
            raise ValueError(f"expected an array, got {type(value).__name__}")
        return tuple(map(element, value))

    return check


def _check_fields(make: Callable[..., Any], checks: tuple[Check, ...]) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not tuple or len(value) != len(checks):
            raise ValueError(f"expected an array of {len(checks)}")
        return make(*(field(item) for field, item in zip(checks, value, strict=True)))

    return check


def _check_for(annotation: Any) -> Check:
    """Return the function that checks a decoded value against a field's annotation."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is int:
        return _check_integer
    if annotation in (str, bytes, bool, float):
        return _check_exact(annotation)
    if origin is types.UnionType or origin is typing.Union:
        return _check_union(arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return _check_sequence(_check_for(arguments[0]))
    if origin is tuple:
        return _check_fields(lambda *items: items, tuple(map(_check_for, arguments)))
    if isinstance(annotation, type) and hasattr(annotation, "_fields"):
        return _check_fields(annotation, _field_checks(annotation))
    raise TypeError(f"no check for fields of type {annotation!r}")


def _field_checks(record: type) -> tuple[Check, ...]:
    hints = typing.get_type_hints(record)
    return tuple(_check_for(hints[name]) for name in record._fields)  # type: ignore[attr-defined]


_FIELDS: dict[type, tuple[Check, ...]] = {record: _field_checks(record) for record in _TAGS}


class FrameDecoder:
    """Turns a stream of bytes, split anyhow, into records of one direction. One decoder for each channel."""

    def __init__(self, accepts: Mapping[int, type], *, limit: int = MAX_FRAME) -> None:
        """`accepts` is a table of `messages`; `limit` is in bytes, for the largest string of a frame."""
        self._accepts = accepts
        self._feed_limit = limit + ENVELOPE_ALLOWANCE
        self._unpacker = msgpack.Unpacker(
            use_list=False,
            raw=False,
            max_buffer_size=2 * self._feed_limit,
            max_str_len=limit,
            max_bin_len=limit,
            max_array_len=MAX_ITEMS,
            max_map_len=0,
            max_ext_len=0,
        )
        self.frames = 0
        """Frames decoded so far."""

    def decode(self, data: bytes | bytearray | memoryview) -> Iterable[tuple[Any, ...]]:
        """Yield the records that `data` completes. Raises ProtocolViolation at the first frame that is none of ours.

        Records before it have been yielded. After a violation the decoder is of no further use.
        """
        for start in range(0, len(data), self._feed_limit):
            try:
                self._unpacker.feed(data[start : start + self._feed_limit])
            except msgpack.BufferFull:
                raise ProtocolViolation("a frame is larger than its limit") from None
            while True:
                try:
                    frame = self._unpacker.unpack()
                except msgpack.OutOfData:
                    break
                except (
                    Exception
                ) as problem:  # msgpack has no common base: ValueError, UnicodeDecodeError, StackError, …
                    raise ProtocolViolation(f"no frame: {type(problem).__name__}") from problem
                yield self._record(frame)

    def _record(self, frame: Any) -> tuple[Any, ...]:
        if type(frame) is not tuple or not frame or type(frame[0]) is not int:
            raise ProtocolViolation("no frame: expected an array that starts with a tag")
        record = self._accepts.get(frame[0])
        if record is None:
            raise ProtocolViolation(f"tag {frame[0]} has no place on this channel")
        checks = _FIELDS[record]
        if len(frame) != len(checks) + 1:
            raise ProtocolViolation(f"{record.__name__}: expected {len(checks)} fields, got {len(frame) - 1}")
        try:
            decoded: tuple[Any, ...] = record(*(check(item) for check, item in zip(checks, frame[1:], strict=True)))
        except ValueError as problem:
            raise ProtocolViolation(f"{record.__name__}: {problem}") from None
        self.frames += 1
        return decoded
