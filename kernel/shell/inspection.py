"""What the supervisor tells of itself when it is asked by a signal, for people and for tests.

SIGUSR1: one line of the log, `statistics {…}`: the sizes of its tables. SIGUSR2: one line for each OS process that it has
started, `process {…}`, and then `listed N of M processes`. Both are JSON of numbers, PIDs and entry ids, and hold no name,
payload or address. They change nothing, and are made between two turns, so the tables agree. Who may send the signals is the
operating system's business: root, and the user that the runtime runs as.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

logger = logging.getLogger("wsrelay.inspection")
logger.setLevel(logging.INFO)  # who asks is answered, however little the log says otherwise

STATISTICS_SIGNAL: Final = signal.SIGUSR1
LISTING_SIGNAL: Final = signal.SIGUSR2
SIGNALS: Final = (STATISTICS_SIGNAL, LISTING_SIGNAL)
MAX_LISTED: Final = 10_000
"""Processes that one listing shows: writing so many lines takes less than a second."""

Facts = Mapping[str, Any]


def handlers(
    sizes: Callable[[], Mapping[str, int]], listing: Callable[[], Iterable[Facts]]
) -> dict[int, Callable[[], None]]:
    """What to do at each of the signals. `sizes` and `listing` are called then."""
    return {
        STATISTICS_SIGNAL: lambda: log_statistics({**sizes(), "descriptors": count_descriptors()}),
        LISTING_SIGNAL: lambda: log_processes(listing()),
    }


def log_statistics(sizes: Mapping[str, int]) -> None:
    """Write the sizes of the tables."""
    logger.info("statistics %s", json.dumps(sizes))


def log_processes(processes: Iterable[Facts]) -> None:
    """Write what there is, up to `MAX_LISTED`."""
    everything = list(processes)
    for facts in everything[:MAX_LISTED]:
        logger.info("process %s", json.dumps(facts))
    logger.info("listed %d of %d processes", min(len(everything), MAX_LISTED), len(everything))


def count_descriptors() -> int:
    """How many descriptors this process has open. Needs one to spare, which does not count; -1 without."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return -1
