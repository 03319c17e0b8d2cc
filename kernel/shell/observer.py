"""What the supervisor tells the gateway of when that is asked for metrics or health: one look, between two turns.

Owns the counts, and the measuring of how late the loop is, which goes on only where there is an `http.admin`. Reads no file and
measures no process: that is the gateway's work, because it may take a while.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import time
from collections.abc import Iterator
from typing import Protocol

from ..core.readiness import unready
from ..core.tally import Tally
from ..wire.configuration import pack
from ..wire.observation import Histogram, Observation, ProcessFacts
from .gateway import Gateway
from .host import Host
from .views import Views

INTERVAL = 1.0
"""Seconds between two measurements of the loop's lag."""
MAX_PROCESSES = 10_000
"""Processes of one look: half a megabyte, and some milliseconds."""


class Subject(Protocol):
    """What is looked at."""

    gateway: Gateway
    hosts: dict[str, Host]

    @property
    def stopping(self) -> bool:
        """Whether the runtime stops."""


class Observer:
    """Looks at the supervisor when asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, subject: Subject, views: Views) -> None:
        self.tally = Tally()
        self._loop = loop
        self._subject = subject
        self._views = views
        self._started_at = time.time()
        self._lag = Histogram()
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measure the lag from now on."""
        self._due = self._loop.time() + INTERVAL
        self._timer = self._loop.call_at(self._due, self._tick)

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._lag.observe(max(0.0, self._loop.time() - self._due))
        self.start()

    def observe(self) -> bytes:
        """Return an Observation, packed."""
        subject, views, tally = self._subject, self._views, self.tally
        services = views.services()
        look = Observation(
            unready=unready(views.parts(), services, views.wanted_services(), stopping=subject.stopping),
            started_at=self._started_at,
            spawns=dict(tally.spawns),
            function_workers=dict(tally.function_workers),
            exits=tally.exits_of(views.entries()),
            restarts=dict(tally.restarts),
            upgrades=dict(tally.upgrades),
            services={id: state.value for id, state in services.items()},
            connections_lost=tally.connections_lost,
            gateway_restarts=max(0, subject.gateway.starts - 1),
            host_restarts={id: max(0, host.starts - 1) for id, host in subject.hosts.items()},
            spawn_seconds=tally.spawn_seconds.data(),
            lag_seconds=self._lag.data(),
            reaped_cpu=_reaped_cpu(),
            processes=tuple(itertools.islice(self._processes(), MAX_PROCESSES)),
        )
        return pack(look)

    def _processes(self) -> Iterator[ProcessFacts]:
        subject = self._subject
        yield ProcessFacts("supervisor", os.getpid(), "")
        if subject.gateway.child is not None:
            yield ProcessFacts("gateway", subject.gateway.child.os_pid, "")
        for id, host in subject.hosts.items():
            if host.child is not None:
                yield ProcessFacts("host", host.child.os_pid, id)
        for os_pid, entry in self._views.running():
            yield ProcessFacts("worker", os_pid, entry)


def _reaped_cpu() -> float:
    """Seconds of CPU time of the children that were reaped, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
