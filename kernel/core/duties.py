"""The duties of the supervisor, and whether they are met: only then is the service manager's watchdog fed.

Knows of each part only since when it has not been well. The loop itself is judged by how late its ticks come.

A part that is down is being mended: the gateway and the hosts are started again by themselves. That is no reason to restart
everything else, so each has `PATIENCE` seconds, or twice as long as it ever took to come up.
"""

from __future__ import annotations

from collections.abc import Collection

PATIENCE = 60.0
"""Seconds that a part may be down before the whole runtime is better started anew."""
_LATE = 1.0
"""How late a tick may come, as a share of the interval. A loop that lags more does not do its work in time."""


class Duties:
    """What must be well."""

    def __init__(self, parts: list[str], now: float) -> None:
        """All `parts` are down at first."""
        self._down_since: dict[str, float | None] = dict.fromkeys(parts, now)
        self._slowest = dict.fromkeys(parts, 0.0)
        self._last_tick: float | None = None

    def report(self, part: str, well: bool, now: float) -> None:
        """A part is well, or is not. Saying the same again changes nothing."""
        since = self._down_since.setdefault(part, now)
        if not well and since is None:
            self._down_since[part] = now
        elif well and since is not None:
            self._slowest[part] = max(self._slowest.get(part, 0.0), now - since)
            self._down_since[part] = None

    def keep_only(self, parts: Collection[str]) -> None:
        """Forget every other part: it was configured no more."""
        for part in [each for each in self._down_since if each not in parts]:
            del self._down_since[part]

    def tick(self, interval: float, now: float) -> str:
        """The loop's timer has come, which comes every `interval` seconds. Returns what is not as it should be, or nothing."""
        last, self._last_tick = self._last_tick, now
        if last is not None and now - last > interval * (1 + _LATE):
            return f"the supervisor's loop was {now - last - interval:.1f} s late"
        return self.unmet(now)

    def unmet(self, now: float) -> str:
        """Return which part has been down for too long, or nothing."""
        for part, since in self._down_since.items():
            if since is not None and now - since > max(PATIENCE, 2 * self._slowest.get(part, 0.0)):
                return f"{part} has been down for {now - since:.0f} s"
        return ""
