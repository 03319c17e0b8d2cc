"""Measures the CPU time and the memory of the runtime's processes, for the metrics.

A few in each turn of the loop, at most `MAX_WORKERS` workers, and not again within `KEPT` seconds: so a scrape costs a bounded
share of the gateway's time, however often somebody scrapes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Iterator
from typing import Final

import psutil

from ...kernel.wire.observation import ProcessFacts
from ..core.metrics import Usage

KEPT: Final = 5.0
"""Seconds that a measurement is good for."""
MAX_WORKERS: Final = 1000
"""Workers that are measured: a tenth of a second of CPU time."""
SLICE: Final = 16
"""Processes measured in one turn: two milliseconds."""


class Measuring:
    """The last measurement, and the next."""

    def __init__(self) -> None:
        self._usages: list[Usage] = []
        self._until = 0.0
        self._turn = asyncio.Lock()

    async def measure(self, processes: Iterable[ProcessFacts]) -> list[Usage]:
        """Return what these processes use, or used a little while ago."""
        async with self._turn:
            if time.monotonic() >= self._until:
                usages: list[Usage] = []
                for number, facts in enumerate(_bounded(processes)):
                    if number % SLICE == SLICE - 1:
                        await asyncio.sleep(0)
                    if (usage := measure_one(facts)) is not None:
                        usages.append(usage)
                self._usages, self._until = usages, time.monotonic() + KEPT
            return self._usages


def _bounded(processes: Iterable[ProcessFacts]) -> Iterator[ProcessFacts]:
    workers = 0
    for facts in processes:
        workers += facts.role == "worker"
        if workers <= MAX_WORKERS or facts.role != "worker":
            yield facts


def measure_one(facts: ProcessFacts) -> Usage | None:
    """Return what a process uses; None if it is gone. Its number may be another's by now: then its parent is not our own."""
    supervisor = os.getppid()
    try:
        process = psutil.Process(facts.os_pid)
        with process.oneshot():
            if supervisor not in (process.ppid(), facts.os_pid):
                return None
            times = process.cpu_times()
            return Usage(facts.role, facts.entry, times.user + times.system, process.memory_info().rss)
    except psutil.Error:
        return None
