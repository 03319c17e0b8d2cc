"""When each connection is closed in a drain: in batches, spread at random, so that clients do not all come back at once.

Pure: randomness is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

BATCH_INTERVAL: Final = 0.1
"""Seconds from one batch to the next, if there is time for all."""


def plan_batches(count: int, batch: int, within: float, random: Callable[[], float]) -> list[tuple[float, int]]:
    """Return when to close how many of `count` connections: delays in seconds from now, not above `within`, in order.

    `batch` at a time, the first at once and the others somewhere in their tenth of a second; larger batches if that would take
    longer than `within`. `random() -> [0, 1)`.
    """
    most = 1 + int(within / BATCH_INTERVAL)
    batches = max(1, min(-(-count // batch), most))
    delays = [min(within, (number - random()) * BATCH_INTERVAL) if number else 0.0 for number in range(batches)]
    share, more = divmod(count, batches)
    return [(delay, share + (number < more)) for number, delay in enumerate(delays) if share + (number < more)]
