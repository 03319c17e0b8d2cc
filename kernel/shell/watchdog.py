"""The watchdog of the gateway and of hosts: a hang is no death (S17), but one of these that hangs is of no use to anybody (S41).

Counts its own ticks and not the clock: a tick that comes late, because this process or the whole machine stood still, is one
tick, and says nothing about the other side.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

logger = logging.getLogger("wsrelay")

TICKS = 5
"""Unanswered ticks that make a hang: a limit is divided into so many."""


def limit_from_environment(variable: str, default: float) -> float:
    """The limit that the environment sets, in seconds, or else the default; 0 is for ever."""
    text = os.environ.get(variable, "")
    try:
        return max(0.0, float(text)) if text else default
    except ValueError:
        logger.warning("%s=%s is not a number of seconds: ignored", variable, text)
        return default


class Watchdog:
    """Asks for a sign of life at every tick."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, ask: Callable[[int], None], on_hang: Callable[[float], None]
    ) -> None:
        """`ask(number)` asks for the answer with this number, `on_hang(limit)` is told that none came."""
        self._loop = loop
        self._ask = ask
        self._on_hang = on_hang
        self._limit = 0.0
        self._number = 0
        self._answered = 0
        self._missed = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, limit: float) -> None:
        """Start, or go on, with a hang being `limit` seconds without an answer. 0 is for ever."""
        self.stop()
        self._limit = limit
        self._answered = self._number
        if limit > 0:
            self._tick()

    @property
    def watching(self) -> bool:
        """Whether it is asking."""
        return self._timer is not None

    def stop(self) -> None:
        """Ask no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def heard(self) -> None:
        """The other side has said something: that is as good as an answer."""
        self._answered = self._number

    def answered(self, number: int) -> None:
        """The other side lives."""
        self._answered = max(self._answered, min(number, self._number))

    def _tick(self) -> None:
        if self._answered == self._number:
            self._missed = 0
            self._number += 1
            self._ask(self._number)
        else:
            self._missed += 1
            if self._missed >= TICKS:
                self._timer = None
                self._on_hang(self._limit)
                return
        self._timer = self._loop.call_later(self._limit / TICKS, self._tick)
