"""The `X-WS-Relay` header of a handler's response: which process a connection is bound to, and how.

Owns the header's syntax. Knows nothing of connections: a value comes out, or `MalformedHeader`, which is answered with 500
(S44) because the handler is ours and not the client's. Metadata leaves here packed, as it travels on the wire.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgpack

from ...kernel.wire.errors import Invalid
from ...kernel.wire.hold import Hold, parse_hold
from ...kernel.wire.messages import MAX_TOPIC, topic_is_reserved
from ...kernel.wire.pid import Pid, check_name, looks_like_pid
from ...kernel.wire.quantities import parse_duration

HEADER_NAME: Final = "x-ws-relay"
DEFAULT_TOPIC: Final = "ws.message"
NO_METADATA: Final[bytes] = msgpack.packb({})
_FIELDS: Final = frozenset({"target_pid", "message_topic", "heartbeat_interval", "metadata", "on_exit", "hold"})


class MalformedHeader(ValueError):
    """The handler's relay header is no relay header; the message names the field.

    `target` is the target that it names all the same, if any: nobody will join it (S44).
    """

    target: str | None = None


class RelayHeader(NamedTuple):
    """What a handler asks for. `heartbeat` is in seconds, 0 for none (S55); `metadata` is packed; without `hold` the
    connection is closed when its target ends (S56)."""

    target: str
    topic: str = DEFAULT_TOPIC
    heartbeat: float = 0.0
    metadata: bytes = NO_METADATA
    hold: Hold | None = None


def find_relay_header(headers: Iterable[tuple[str, str]]) -> str | None:
    """Return the header's value, None if the handler set none. Raises MalformedHeader if it set several."""
    values = [value for name, value in headers if name.lower() == HEADER_NAME]
    if len(values) > 1:
        raise MalformedHeader("X-WS-Relay was set more than once")
    return values[0] if values else None


def parse_relay_header(text: str) -> RelayHeader:
    """Parse the header's value. Raises MalformedHeader (S44, S55)."""
    try:
        fields = _DECODER.decode(text)
    except (ValueError, RecursionError) as problem:
        raise MalformedHeader(f"expected a JSON object ({type(problem).__name__})") from None
    if not isinstance(fields, dict):
        raise MalformedHeader(f"expected a JSON object, got {type(fields).__name__}")
    target = _target(fields.get("target_pid"))
    try:
        for name in fields:
            if name not in _FIELDS:
                raise MalformedHeader(f"unknown field {name!r:.80}; expected {', '.join(sorted(_FIELDS))}")
        return RelayHeader(
            target=target,
            topic=check_topic(fields.get("message_topic", DEFAULT_TOPIC)),
            heartbeat=_heartbeat(fields.get("heartbeat_interval")),
            metadata=_metadata(fields.get("metadata")),
            hold=_hold(target, fields.get("on_exit"), fields.get("hold")),
        )
    except MalformedHeader as malformed:
        malformed.target = target
        raise


def check_topic(topic: object) -> str:
    """Return a topic that client messages may have. Raises MalformedHeader: reserved, too long or no text (S9)."""
    if not isinstance(topic, str) or not topic or len(topic) > MAX_TOPIC:
        raise MalformedHeader(f"message_topic: expected a string of 1 to {MAX_TOPIC} characters")
    if topic_is_reserved(topic):
        raise MalformedHeader(f"message_topic: {topic!r:.80} is reserved")
    if not _is_utf8(topic):
        raise MalformedHeader("message_topic: no valid text")
    return topic


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)  # `json.loads` would make one for each header


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _target(value: object) -> str:
    if not isinstance(value, str):
        raise MalformedHeader("target_pid: expected a PID or a registered name")
    try:
        return Pid.parse(value) if looks_like_pid(value) else check_name(value)
    except Invalid as problem:
        raise MalformedHeader(f"target_pid: {problem}") from None


def _heartbeat(value: object) -> float:
    if value is None:
        return 0.0
    try:
        return parse_duration(value)
    except ValueError as problem:
        raise MalformedHeader(f"heartbeat_interval: {problem}") from None


def _hold(target: str, on_exit: object, hold: object) -> Hold | None:
    try:
        return parse_hold(target, on_exit, hold)
    except ValueError as problem:
        raise MalformedHeader(str(problem)) from None


def _metadata(value: object) -> bytes:
    if value is None:
        return NO_METADATA
    if not isinstance(value, dict):
        raise MalformedHeader(f"metadata: expected an object, got {type(value).__name__}")
    try:
        packed: bytes = msgpack.packb(value)
    except (ValueError, OverflowError, RecursionError) as problem:
        raise MalformedHeader(f"metadata: cannot be carried ({type(problem).__name__})") from None
    return packed
