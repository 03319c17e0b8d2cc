"""What was written during one turn of the event loop leaves at its end, with one system call for each peer.

Owns the list of peers with something to write. Knows nothing of what they are.
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

    def mark(self, peer: Flushable) -> None:
        """Have `peer` flushed. The peer sees to it that it is marked once."""
        if not self._peers:
            self._loop.call_soon(self._flush)
        self._peers.append(peer)

    def _flush(self) -> None:
        peers, self._peers = self._peers, []
        for peer in peers:
            peer.flush_turn()
