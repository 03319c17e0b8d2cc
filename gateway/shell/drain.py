"""Closes every open connection, batch by batch.

Owns the timers of the batches. When to close how many is decided in `core.drain`, how a connection closes by its session.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable

from ...kernel.wire.configuration import Drain as DrainSettings
from ..core import session_events as e
from ..core.drain import plan_batches
from .connection import RelayConnection


def drain(loop: asyncio.AbstractEventLoop, connections: Iterable[RelayConnection]) -> None:
    """Close the connections, those of each `http.service` as its `drain` says; they are served until it is their turn."""
    by_service: dict[DrainSettings, list[RelayConnection]] = {}
    for connection in connections:
        by_service.setdefault(connection.drain, []).append(connection)
    for settings, members in by_service.items():
        random.shuffle(members)
        waiting = deque(members)
        for delay, size in plan_batches(len(members), settings.batch, settings.within, random.random):
            if delay:
                loop.call_later(delay, _close, waiting, size, settings.code)
            else:
                _close(waiting, size, settings.code)


def _close(waiting: deque[RelayConnection], size: int, code: int) -> None:
    """Close the next ones; those that have ended by themselves do not mind."""
    for _ in range(size):
        waiting.popleft().handle(e.ShutdownStarted(code))
