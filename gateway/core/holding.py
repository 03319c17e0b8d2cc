"""What is kept of a client while its connection is held (S56).

Owns the backlog: messages that have been decoded and not been handed to anybody, within a bound for each connection and one
for all. Knows nothing of sessions.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ...kernel.wire.messages import ClientMessage, Join

MAX_BYTES_OF_ALL: Final = 256 << 20
"""What all held connections of a gateway may keep together, whatever each may."""
MESSAGE_OVERHEAD: Final = 128
"""Bytes that each message counts beside its content: a client may send empty ones without end."""


class HeldBytes:
    """How much all held connections keep."""

    def __init__(self, limit: int = MAX_BYTES_OF_ALL) -> None:
        self.limit = limit
        self.used = 0


class Backlog:
    """The messages of one client that are still to be handed to a target, in order; the new target's join goes before them."""

    __slots__ = ("_limit", "_messages", "_of_all", "_used", "join")

    def __init__(self, limit: int, of_all: HeldBytes) -> None:
        """`limit` is in bytes."""
        self.join: Join | None = None
        self._messages: deque[ClientMessage] = deque()
        self._limit = limit
        self._of_all = of_all
        self._used = 0

    @property
    def is_empty(self) -> bool:
        """Whether everything has been handed over."""
        return self.join is None and not self._messages

    def keep(self, message: ClientMessage) -> bool:
        """Keep a message. Returns False if that would be over a bound; then it is not kept."""
        size = _size(message)
        if self._used + size > self._limit or self._of_all.used + size > self._of_all.limit:
            return False
        self._messages.append(message)
        self._count(size)
        return True

    def take(self) -> Join | ClientMessage:
        """Return what is to be handed over next. Raises IndexError if nothing is left."""
        if self.join is not None:
            join, self.join = self.join, None
            return join
        message = self._messages.popleft()
        self._count(-_size(message))
        return message

    def clear(self) -> None:
        """Forget everything."""
        self.join = None
        self._messages.clear()
        self._count(-self._used)

    def _count(self, size: int) -> None:
        self._used += size
        self._of_all.used += size

    def check_invariants(self) -> None:
        """Raise AssertionError if the counts are wrong."""
        if self._used != sum(map(_size, self._messages)):
            raise AssertionError("the bytes of a backlog are counted wrongly")
        if not 0 <= self._used <= self._limit or self._used > self._of_all.used:
            raise AssertionError("a backlog is over its bound")


def _size(message: ClientMessage) -> int:
    data = message.data
    return MESSAGE_OVERHEAD + (len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode()))
