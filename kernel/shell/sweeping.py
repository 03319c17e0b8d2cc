"""Sweeping: what dead workers have left behind is killed, watched while it dies, and reaped (S16).

Owns the orphans. Which processes are orphans is `children.Orphans`' to say; when to look is said by whoever has seen a death.

The children of an orphan are ours when it dies, so each wave of deaths is followed by a sweep. A worker that forked without end
leaves hundreds, which die one after the other: the sweeps that follow take no more than `SHARE` of the supervisor's time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from .children import Child, Orphans

logger = logging.getLogger("wsrelay")

SHARE = 0.2
"""Of the supervisor's time that sweeps after the deaths of orphans may take."""


class Sweeper:
    """The orphans of one boot."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        known: Callable[[], set[int]],
        is_newborn_group: Callable[[int], bool],
        end_turn: Callable[[], None],
    ) -> None:
        """`known` and `is_newborn_group` are as for `Orphans`; `end_turn` ends a turn of the loop that began here."""
        self._loop = loop
        self._end_turn = end_turn
        self._orphans = Orphans(known, is_newborn_group)
        self._sweeping = False
        self._rested = float("-inf")
        """When the next sweep may follow the death of an orphan."""

    @property
    def dying(self) -> Mapping[int, Child]:
        """The orphans that are killed and not yet reaped, by os_pid."""
        return self._orphans.dying

    def sweep(self, *, quick: bool = False) -> None:
        """Kill what dead workers have left behind, and reap it when it is dead."""
        try:
            found = self._orphans.sweep(quick=quick)
        except OSError as problem:  # no descriptor to spare; the next death sweeps again
            logger.error("cannot look for what dead workers have left behind: %s", problem)
            return
        for orphan in found:
            logger.info("killed os process %d, left behind by a worker that ended", orphan.os_pid)
            self._await(orphan)

    def take(self, os_pid: int) -> None:
        """Kill a child of ours that nobody wants. Raises OSError if it is no child of ours."""
        self._await(self._orphans.take(os_pid))

    def _await(self, orphan: Child) -> None:
        self._loop.add_reader(orphan.pidfd, self._died, orphan)

    def _died(self, orphan: Child) -> None:
        if orphan.status() is not None:
            self._loop.remove_reader(orphan.pidfd)
            self._orphans.reap(orphan)
            self._sweep_soon()

    def _sweep_soon(self) -> None:
        """Sweep once, however many orphans have died just now: theirs are ours from then on."""
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_at(self._rested, self._sweep_again)

    def _sweep_again(self) -> None:
        """The sweep that is sure to find all follows when those are dead that are known."""
        self._sweeping = False
        before = time.thread_time()
        self.sweep(quick=bool(self.dying))
        self._rested = self._loop.time() + (time.thread_time() - before) * (1 / SHARE - 1)
        self._end_turn()
