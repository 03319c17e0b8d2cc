"""What the gateway counts for its metrics: plain numbers on objects that are there anyway.

Owns the counts of one `http.service`, the high-water marks, and the labels by which closes are counted: few values, whatever a
client sends. Pure.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from ...kernel.wire.observation import Histogram

DURATIONS: Final = (0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0)
"""Seconds: upper bounds for the lives of connections."""


class ServerCounts:
    """Of one `http.service`, since the gateway's start. Bytes are those of the line, frames and all."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed: Counter[tuple[str, str]] = Counter()
        """By `code_label` and initiator."""
        self.messages_received = 0
        """Of connections that have ended, as the next three: those of open ones are kept with them."""
        self.messages_sent = 0
        self.bytes_received = 0
        self.bytes_sent = 0
        self.slow_clients = 0
        self.connection_seconds = Histogram(DURATIONS)
        self.requests: Counter[int] = Counter()
        """By status."""
        self.request_seconds = Histogram()


class HighWater:
    """The highest value of the last while: of the time since the last `rotate`, and of that before."""

    def __init__(self) -> None:
        self._current = self._previous = 0

    def note(self, value: int) -> None:
        """There is this much now."""
        if value > self._current:
            self._current = value

    def rotate(self) -> None:
        """A new while begins."""
        self._previous, self._current = self._current, 0

    @property
    def value(self) -> int:
        """The mark."""
        return max(self._current, self._previous)


def code_label(leave: str, code: int | None) -> str:
    """Return how a close is counted: its code, 1005 for none, 1006 for a cut line, and `3xxx` and `4xxx` for the codes that are
    anybody's to choose (RFC 6455 §7.4)."""
    if leave == "connection_lost":
        return "1006"
    if code is None:
        return "1005"
    return str(code) if code <= 1015 else f"{code // 1000}xxx"


def initiator(leave: str, closer: str) -> str:
    """Return who ended a connection, from the reason of its leave: `client`, `line` (it was cut), `gateway` (a limit or the
    protocol), `runtime` (it stops), or what the session says: `target` (it ended) or `process` (it asked for the close)."""
    return _INITIATORS.get(leave, closer)


_INITIATORS: Final = {
    "client_closed": "client",
    "connection_lost": "line",
    "timeout": "gateway",
    "slow_client": "gateway",
    "protocol_error": "gateway",
    "too_big": "gateway",
    "shutdown": "runtime",
}
