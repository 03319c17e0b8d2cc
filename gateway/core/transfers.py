"""The transfers that were asked of one connection (S47, S48): one is under way, the others wait for its outcome.

Owns their order and their bound. Who may ask, and what an outcome means, is the session's.
"""

from __future__ import annotations

from typing import Final

from .session_events import ControlRequested

MAX_TRANSFERS_WAITING: Final = 64


class Transfers:
    """The waiting ones, in order, and the one under way."""

    __slots__ = ("_waiting", "pending")

    def __init__(self) -> None:
        self.pending: ControlRequested | None = None
        """The transfer under way: the client's stream is cut (S47)."""
        self._waiting: list[ControlRequested] = []

    def wait(self, request: ControlRequested) -> bool:
        """Put a request behind the others. Returns False if too many wait; then it is not kept."""
        if len(self._waiting) >= MAX_TRANSFERS_WAITING:
            return False
        self._waiting.append(request)
        return True

    def finish(self) -> ControlRequested | None:
        """The transfer under way has its outcome; returns it. None if it was dropped meanwhile."""
        pending, self.pending = self.pending, None
        return pending

    def take_waiting(self) -> ControlRequested | None:
        """Return the next that may begin; None if there is none, or one is under way."""
        return self._waiting.pop(0) if self._waiting and self.pending is None else None

    def clear(self) -> None:
        """Forget all: the connection closes."""
        self.pending = None
        self._waiting.clear()

    def check_invariants(self) -> None:
        """Raise AssertionError if some wait for nothing."""
        if self._waiting and self.pending is None:
            raise AssertionError("transfers wait for none")
