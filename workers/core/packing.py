"""Arguments, payloads and returned values: from Python to the opaque bytes that travel, and back.

Here it is decided what can be carried; what cannot is named, with its type and its place, in the sender (S9).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgpack

from ...kernel.wire.errors import Invalid

_MSGPACK_CARRIES = "None, bool, int (64 bits), float, str, bytes, list, tuple and dict"
_JSON_CARRIES = "None, bool, int, float (finite), str, list, tuple and dict with such keys"
_PROBLEMS = (TypeError, ValueError, OverflowError, RecursionError)
_MAX_DEPTH = 32
_KEEP_SIZE = 64 << 10
"""Bytes. A packer's buffer never shrinks: after more than this it is made anew."""

_spare: list[msgpack.Packer] = []
"""A packer that nobody uses. Making one takes three times as long as packing a short text."""


def pack(value: Any, what: str = "the payload") -> bytes:
    """Return `value` packed. Raises Invalid, which names the type and its place, if msgpack cannot carry it."""
    try:
        packer = _spare.pop()
    except IndexError:  # another thread has it, or what a signal handler has interrupted
        packer = msgpack.Packer(buf_size=_KEEP_SIZE)
    try:
        packed: bytes = packer.pack(value)
    except _PROBLEMS as error:
        raise _refusal(value, what, "msgpack", _MSGPACK_CARRIES, msgpack.packb, error) from None
    if len(packed) <= _KEEP_SIZE and not _spare:
        _spare.append(packer)
    return packed


def unpack(packed: bytes) -> Any:
    """Return the value. Arrays come back as lists. Raises ValueError if the bytes are no packed value."""
    try:
        return msgpack.unpackb(packed, strict_map_key=False)
    except TypeError:  # a dict with tuples as its keys: arrays must stay hashable
        try:
            return msgpack.unpackb(packed, strict_map_key=False, use_list=False)
        except Exception as error:
            raise ValueError(f"no packed value: {error}") from None
    except Exception as error:  # msgpack has no common base
        raise ValueError(f"no packed value: {error}") from None


_as_text = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode
_as_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
# `json.dumps` makes an encoder for each call with such options, which takes longer than to encode something short.


def to_json(value: Any, what: str = "the payload", *, ascii: bool = False) -> str:
    """Return `value` as JSON, on request with nothing but ASCII in it. Raises Invalid, which names the type and its place, if JSON
    cannot carry it."""
    dumps = _as_ascii if ascii else _as_text
    try:
        return dumps(value)
    except _PROBLEMS as error:
        raise _refusal(value, what, "JSON", _JSON_CARRIES, dumps, error) from None


def _refusal(
    value: Any, what: str, carrier: str, carries: str, attempt: Callable[[Any], object], error: Exception
) -> Invalid:
    found = _find_culprit(value, attempt, what, 0)
    if found is None:
        return Invalid(f"{what} cannot be carried by {carrier}: {error}")
    place, culprit = found
    shown = f" {culprit!r}" if type(culprit) in (int, float) else ""
    if isinstance(culprit, str):
        shown = " that is no UTF-8 (it holds lone surrogates)"
    return Invalid(f"{place} is of type {_type_name(culprit)}{shown:.80}: {carrier} carries {carries}")


def _find_culprit(value: Any, attempt: Callable[[Any], object], place: str, depth: int) -> tuple[str, Any] | None:
    """Return the innermost value that `attempt` refuses, with its place; None if it is not to be found."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, dict):
        for key, item in value.items():
            if _refuses({key: None}, attempt):
                return f"a key of {place}", key
            if _refuses(item, attempt):
                return _find_culprit(item, attempt, f"{place}[{_show_key(key)}]", depth + 1)
        return None
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if _refuses(item, attempt):
                return _find_culprit(item, attempt, f"{place}[{index}]", depth + 1)
        return None
    return place, value


def _show_key(key: Any) -> str:
    return f"{key!r:.60}"


def _refuses(value: Any, attempt: Callable[[Any], object]) -> bool:
    try:
        attempt(value)
    except _PROBLEMS:
        return True
    return False


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
