"""On which processors a process runs: for the gateway, and for what runs handlers.

Affinity and no fence: whoever runs in the process can change it (sched_setaffinity(2)).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection


def bind(processors: Collection[int]) -> None:
    """Have every thread of this process, and so all that it starts, run on these processors alone; on those of them that can be had; on
    the same as before, if that is none. Who has to know looks, as the supervisor does."""
    bound: set[str] = set()
    while fresh := set(os.listdir("/proc/self/task")) - bound:  # one that is not bound yet may start another
        for thread in fresh:
            with contextlib.suppress(OSError):  # it has ended; or there is no such processor any more
                os.sched_setaffinity(int(thread), processors)
        bound |= fresh
