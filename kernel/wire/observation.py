"""What the supervisor knows of itself and its children, as it hands it to the gateway that is asked for metrics.

Plain frozen dataclasses, carried by `Observed` and packed like a configuration (`configuration.pack`). Here too is the
histogram that both processes count in. Pure: times are arguments.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

SHORT_TIMES: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: upper bounds for what should take milliseconds."""


@dataclass(frozen=True, slots=True)
class HistogramData:
    """`counts` has one number for each bound, and one for what is over the last; they are not added up."""

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = (0,)
    sum: float = 0.0


class Histogram:
    """Counts observations by size."""

    def __init__(self, bounds: Sequence[float] = SHORT_TIMES) -> None:
        """`bounds` are inclusive upper bounds, ascending."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def data(self) -> HistogramData:
        """What has been counted so far."""
        return HistogramData(self._bounds, tuple(self._counts), self._sum)


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """An OS process of the runtime: `supervisor`, `gateway`, `host` or `worker`, and the id of the host or of what runs."""

    role: str
    os_pid: int
    entry: str


@dataclass(frozen=True, slots=True)
class Observation:
    """One look, between two turns of the supervisor. Counts are since its start."""

    unready: str = ""
    """Why the runtime is not ready, in a line; empty if it is."""
    started_at: float = 0.0
    """Seconds since the epoch."""
    spawns: dict[str, int] = field(default_factory=dict)
    """By entry."""
    function_workers: dict[str, int] = field(default_factory=dict)
    """By host: how many were started."""
    exits: dict[str, dict[str, int]] = field(default_factory=dict)
    """By entry and kind of reason."""
    restarts: dict[str, int] = field(default_factory=dict)
    """By service."""
    upgrades: dict[str, int] = field(default_factory=dict)
    """By the new entry."""
    services: dict[str, str] = field(default_factory=dict)
    """The state of each."""
    connections_lost: int = 0
    """Connections that died with their gateway."""
    gateway_restarts: int = 0
    host_restarts: dict[str, int] = field(default_factory=dict)
    spawn_seconds: HistogramData = HistogramData()
    """From the decision to start a worker to the supervisor's hold on its OS process."""
    lag_seconds: HistogramData = HistogramData()
    """How late the supervisor's loop was."""
    reaped_cpu: float = 0.0
    """Seconds of CPU time of all that has ended."""
    processes: tuple[ProcessFacts, ...] = ()
