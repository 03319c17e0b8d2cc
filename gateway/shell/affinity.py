"""Where the gateway runs: on the processors that the configuration says, else where the runtime was started."""

from __future__ import annotations

import os

from ...kernel.wire.affinity import bind


class Affinity:
    """This process's. Made before anything has changed it."""

    def __init__(self) -> None:
        self._inherited = tuple(sorted(os.sched_getaffinity(0)))
        self._wanted: tuple[int, ...] | None = None

    def become(self, wanted: tuple[int, ...] | None) -> None:
        """Run on these processors, with all threads, also if somebody has moved it since; None for those that were inherited."""
        if wanted is not None or self._wanted is not None:
            bind(self._inherited if wanted is None else wanted)
        self._wanted = wanted
