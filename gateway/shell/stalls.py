"""Clients that take no bytes (S54).

Owns one timer for all connections that have bytes waiting in their transport. A connection that has written nothing of them
for its write timeout is slow. Nothing is scheduled while nobody waits.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from ..core.counts import HighWater

_SWEEPS = 8
"""Looks per write timeout: how exact the timeout is."""


class Writer(Protocol):
    """A connection with bytes to write."""

    @property
    def write_timeout(self) -> float:
        """Seconds without progress that are too long."""

    def bytes_waiting(self) -> int:
        """Bytes not yet taken by the operating system."""

    def bytes_queued(self) -> int:
        """Bytes handed to the transport since the connection began."""

    def handle_stall(self) -> None:
        """There was no progress for `write_timeout`."""


class StallWatch:
    """All connections that have bytes waiting."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._progress: dict[Writer, tuple[int, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.high_water = HighWater()
        """Of the bytes that wait for one client."""

    def watch(self, writer: Writer) -> None:
        """Look after a connection until its bytes are gone."""
        self.high_water.note(writer.bytes_waiting())
        if writer not in self._progress:
            self._progress[writer] = (writer.bytes_queued() - writer.bytes_waiting(), self._loop.time())
            if self._timer is None:
                self._timer = self._loop.call_later(writer.write_timeout / _SWEEPS, self._sweep)

    def bytes_waiting(self) -> int:
        """Bytes that wait for all clients together."""
        return sum(writer.bytes_waiting() for writer in self._progress)

    def forget(self, writer: Writer) -> None:
        """The connection is gone."""
        self._progress.pop(writer, None)

    def _sweep(self) -> None:
        self._timer = None
        now = self._loop.time()
        for writer, (written, since) in list(self._progress.items()):
            waiting = writer.bytes_waiting()
            progress = writer.bytes_queued() - waiting
            if not waiting:
                del self._progress[writer]
            elif progress > written:
                self._progress[writer] = (progress, now)
            elif now - since >= writer.write_timeout:
                del self._progress[writer]
                writer.handle_stall()
        if self._progress:
            delay = min(writer.write_timeout for writer in self._progress) / _SWEEPS
            self._timer = self._loop.call_later(delay, self._sweep)
