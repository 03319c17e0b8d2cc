"""What became of everybody when the runtime stopped, for the log: who left in time, and who had to be killed."""

from __future__ import annotations

from ..core.effects import ProcessEnded
from ..wire.reason import KILLED

_CUT = ("noconnection", "ws_closed:1006")


class Farewell:
    """Counts the deaths from the beginning of a stop on."""

    def __init__(self) -> None:
        self._began = 0.0
        self._connections = {"closed": 0, "cut": 0}
        self._processes = {"ended": 0, "killed": 0}

    def begin(self, now: float) -> None:
        """The stop begins."""
        self._began = now

    def ended(self, effect: ProcessEnded) -> None:
        """Somebody has ended: a connection that had no time to close is cut."""
        if effect.pid.is_connection:
            self._connections["cut" if effect.reason.kind in _CUT else "closed"] += 1
        else:
            self._processes["killed" if effect.reason.kind == KILLED else "ended"] += 1

    def summary(self, now: float) -> str:
        """Return the counts, in a line."""
        counts = {"connections": self._connections, "processes": self._processes}
        parts = [f"{what} {', '.join(f'{n} {how}' for how, n in each.items())}" for what, each in counts.items()]
        return f"stopped in {now - self._began:.1f} s: {'; '.join(parts)}"
