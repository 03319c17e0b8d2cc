"""What was written during one turn of the event loop leaves at its end, with one system call for each peer.

Owns the list of peers with something to write. What is written while one peer is read, as a worker's sends to its clients are,
leaves when that read has been handled: the rest of the turn will not add to it. Knows nothing of what the peers are.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Flushable(Protocol):
    """A peer: it marks itself once, and is flushed once."""

    def flush_turn(self) -> None:
        """Write what was collected."""


class Turn:
    """The peers to flush at the end of this turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._peers: list[Flushable] = []
        self._reading: list[Flushable] | None = None

    def mark(self, peer: Flushable) -> None:
        """Have `peer` flushed. The peer sees to it that it is marked once."""
        if self._reading is not None:
            self._reading.append(peer)
            return
        if not self._peers:
            self._loop.call_soon(self._flush)
        self._peers.append(peer)

    def begin_read(self) -> None:
        """From now on, until `end_read`, all that is marked is flushed there."""
        if self._reading is None:
            self._reading = []

    def end_read(self) -> None:
        """Write what was collected since `begin_read`."""
        peers, self._reading = self._reading, None
        for peer in peers or ():
            peer.flush_turn()

    def _flush(self) -> None:
        peers, self._peers = self._peers, []
        for peer in peers:
            peer.flush_turn()
