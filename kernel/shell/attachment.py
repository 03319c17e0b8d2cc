"""A channel on the event loop: reads when there is something to read, writes once at the end of a turn.

Knows nothing of what the frames mean. `Attachment.send` only queues; whoever runs the turn calls `Turn.flush` at its end, so
that each peer is written to once in a turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..wire.channel import Channel

EOF_GRACE = 0.1
"""Seconds between the end of a channel and the fence of who held the other end: that may come before its wait status (S13)."""


class Turn:
    """The channels that were sent to in this turn of the loop."""

    def __init__(self) -> None:
        self._dirty: dict[Attachment, None] = {}

    def add(self, attachment: Attachment) -> None:
        """Have it flushed at the end of the turn."""
        self._dirty[attachment] = None

    def flush(self) -> None:
        """Write what was queued."""
        while self._dirty:
            attachment, _ = self._dirty.popitem()
            attachment.flush()


class Attachment:
    """One channel, watched by the loop while it is open."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        turn: Turn,
        channel: Channel,
        on_readable: Callable[[], None],
        *,
        on_drained: Callable[[], None] | None = None,
        on_relieved: Callable[[], None] | None = None,
        on_broken: Callable[[], None] | None = None,
        held: bool = False,
    ) -> None:
        """`on_readable` is called when the channel can be read or has ended, `on_drained` when all that was queued is
        written, `on_relieved` when the socket was full and the peer has read, `on_broken` when nothing can be written any
        more, `EOF_GRACE` seconds later and so after an ordinary death. While `held` nothing is read or written."""
        self.channel = channel
        self._loop = loop
        self._turn = turn
        self._on_readable = on_readable
        self._on_drained = on_drained
        self._on_relieved = on_relieved
        self._on_broken = on_broken
        self._telling: asyncio.TimerHandle | None = None
        self._held = True
        self._writing = False
        if not held:
            self.release()

    def release(self) -> None:
        """Start reading and writing."""
        self._held = False
        self._loop.add_reader(self.channel.fileno(), self._on_readable)
        self._turn.add(self)

    def send(self, record: tuple[Any, ...], descriptor: int | None = None) -> None:
        """Queue a record for the end of the turn. The descriptor stays the caller's to close."""
        self.channel.send(record, descriptor)
        if not self._held:
            self._turn.add(self)

    def send_frame(self, frame: bytes, *, count: int = 1) -> None:
        """Queue the frame of a record that carries no descriptor, or those of `count` such records."""
        self.channel.send_frame(frame, count=count)
        if not self._held:
            self._turn.add(self)

    def flush(self) -> None:
        """Write; what the socket does not take is written when it can."""
        if self._held or self.channel.fileno() < 0:
            return
        done = self.channel.flush()
        if self.channel.broken and self._on_broken is not None:
            self._telling = self._loop.call_later(EOF_GRACE, self._on_broken)
            self._on_broken = None
        if done and self._on_drained is not None:
            self._on_drained()
        if done and self._writing:
            self._writing = False
            self._loop.remove_writer(self.channel.fileno())
        elif not done and not self._writing:
            self._writing = True
            self._loop.add_writer(self.channel.fileno(), self._writable)

    def _writable(self) -> None:
        if self._on_relieved is not None:
            self._on_relieved()
        self.flush()

    def stop_reading(self) -> None:
        """The stream has ended: a reader would be called in a loop."""
        if not self._held:
            self._loop.remove_reader(self.channel.fileno())

    def close(self) -> None:
        """Forget what is unsent and close."""
        if self.channel.fileno() >= 0:
            self._loop.remove_reader(self.channel.fileno())
            self._loop.remove_writer(self.channel.fileno())
            self.channel.close()
        if self._telling is not None:
            self._telling.cancel()
        self._on_readable = _nothing  # they refer to the owner, who refers to us
        self._on_drained = self._on_relieved = self._on_broken = None


def _nothing() -> None:
    """Nobody is told."""
