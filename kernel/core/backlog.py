"""How much of what waits to be written to a worker is mail, and how much is exempt from its bound (S10).

The queue is first in, first out, and only its length is known: so it is kept here as runs of mail and of exempt frames.
"""

from __future__ import annotations

from collections import deque


class Backlog:
    """The unwritten bytes of one channel."""

    def __init__(self) -> None:
        self.mail = 0
        """Bytes of unwritten mail. True after `settle`."""
        self._total = 0
        self._runs: deque[tuple[int, bool]] = deque()
        """Bytes, and whether they are mail; oldest first."""

    def settle(self, pending: int) -> None:
        """So many bytes are unwritten: the oldest are gone. Bytes that nobody has told of are exempt."""
        if pending > self._total:
            self.queue(pending - self._total, mail=False)
        gone = self._total - pending
        self._total = pending
        while gone:
            size, mail = self._runs.popleft()
            part = min(size, gone)
            gone -= part
            if mail:
                self.mail -= part
            if part < size:
                self._runs.appendleft((size - part, mail))

    def queue(self, size: int, *, mail: bool) -> None:
        """A frame of `size` bytes has been queued behind the others."""
        self._total += size
        if mail:
            self.mail += size
        if self._runs and self._runs[-1][1] is mail:
            size += self._runs.pop()[0]
        self._runs.append((size, mail))
