"""The fields `on_exit` and `hold` of the relay header (S56): whether a connection outlives its target, and within which bounds.

Shared because both ends check them: the handler's library at the call, and the gateway when the header arrives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .pid import looks_like_pid
from .quantities import parse_duration

DEFAULT_SECONDS: Final = 10.0
DEFAULT_BYTES: Final = 1 << 20
MAX_BYTES: Final = 16 << 20
"""What one connection may ask for."""


@dataclass(frozen=True, slots=True)
class Hold:
    """How a connection is held: until a service registers `name`, for so many seconds, with so many bytes of messages."""

    name: str
    seconds: float = DEFAULT_SECONDS
    bytes: int = DEFAULT_BYTES


def parse_hold(target: str, on_exit: object, hold: object) -> Hold | None:
    """Read the header's fields `on_exit` and `hold`; None is a field that is not there. Raises ValueError, which names the field.

    Returns None for a connection that is closed when its target ends.
    """
    if on_exit not in (None, "close", "hold"):
        raise ValueError(f'on_exit: expected "close" or "hold", got {on_exit!r:.80}')
    if on_exit != "hold":
        if hold is not None:
            raise ValueError('hold: expected only with on_exit "hold"')
        return None
    if looks_like_pid(target):
        raise ValueError('on_exit: "hold" expects target_pid to be a registered name: a PID does not come back')
    fields = {} if hold is None else hold
    if not isinstance(fields, dict):
        raise ValueError(f"hold: expected an object, got {type(fields).__name__}")
    for name in fields:
        if name not in ("for", "bytes"):
            raise ValueError(f"hold: unknown field {name!r:.80}; expected bytes, for")
    return Hold(target, _seconds(fields.get("for", DEFAULT_SECONDS)), _bytes(fields.get("bytes", DEFAULT_BYTES)))


def _seconds(value: object) -> float:
    try:
        seconds = parse_duration(value)
    except ValueError as problem:
        raise ValueError(f"hold: for: {problem}") from None
    if not seconds:
        raise ValueError('hold: for: expected a duration above 0; on_exit "close" does not hold at all')
    return seconds


def _bytes(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MAX_BYTES:
        raise ValueError(f"hold: bytes: expected a whole number of bytes from 1 to {MAX_BYTES}, got {value!r:.80}")
    return value
