"""The trace contexts of connections: what their joins said of the span of their handshake.

A context is kept for as long as the handler may have a message of the connection in its hands. That is longer than from Join to
Leave, because mail is read ahead of what it takes: so those that have left are remembered for a while.
"""

from __future__ import annotations

from typing import Final, TypeAlias

Trace: TypeAlias = tuple[tuple[str, str], ...]
"""`wire.Join.trace`."""

MAX_LEFT: Final = 8192
"""Connections that have left and are remembered, the latest: as many leaves as are read ahead (`mailbox.DATA_BOUND`)."""


class Traces:
    """PID of a connection to its context. Those without one are not in it."""

    __slots__ = ("_known", "_left")

    def __init__(self) -> None:
        self._known: dict[str, Trace] = {}
        self._left: dict[str, None] = {}

    def join(self, pid: str, trace: Trace) -> None:
        """A connection has joined, and its handshake has a span."""
        self._left.pop(pid, None)
        self._known[pid] = trace

    def leave(self, pid: str) -> None:
        """A connection has left."""
        if pid in self._known:
            self._left[pid] = None
            if len(self._left) > MAX_LEFT:
                oldest = next(iter(self._left))
                del self._left[oldest], self._known[oldest]

    def of(self, pid: str) -> Trace:
        """Return the context of a connection; empty if it has none."""
        return self._known.get(pid, ())

    def contents(self) -> tuple[tuple[str, Trace], ...]:
        """Return all of it, for the new code of an upgraded process (S35): what has left first, in its order."""
        staying = [pid for pid in self._known if pid not in self._left]
        return tuple((pid, self._known[pid]) for pid in (*self._left, *staying))

    def restore(self, contents: tuple[tuple[str, Trace], ...], joined: frozenset[str]) -> None:
        """Have in it what another one had; `joined` are the PIDs of those that have not left."""
        self._known = dict(contents)
        self._left = dict.fromkeys(pid for pid in self._known if pid not in joined)
