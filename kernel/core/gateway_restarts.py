"""How soon a gateway that died is executed again (S41).

Once is an accident: at once. Again and again, without having served for a while between, is a fault that a loop of restarts
would not mend: the delay doubles up to a bound, so that neither the machine nor the log drowns.
"""

from __future__ import annotations

STABLE = 2.0
"""Seconds of service after which a death counts as the first again."""
FIRST_DELAY = 0.1
MAX_DELAY = 5.0


class GatewayRestarts:
    """The delays of one gateway's restarts."""

    def __init__(self) -> None:
        self._deaths = 0

    def next_delay(self, served: float) -> float:
        """The gateway died after it had served for `served` seconds (0 if it never did). Returns the delay, in seconds."""
        self._deaths = 1 if served >= STABLE else self._deaths + 1
        if self._deaths == 1:
            return 0.0
        return min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(self._deaths - 2, 30))
