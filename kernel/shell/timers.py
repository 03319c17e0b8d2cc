"""The timers that the process table asks for, on the event loop.

One for each event: setting it again moves it, and what is no longer needed is cancelled, so that no timer outlives its cause.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..core.effects import (
    ExecutionOverdue,
    GraceExpired,
    ProbeDue,
    ProcessEnded,
    RestartDue,
    ServiceChanged,
    SetTimer,
    StartOverdue,
    Timer,
)
from ..core.service_states import State


class Timers:
    """What is to be told to the table, and when."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fire: Callable[[Timer, float], None]) -> None:
        """`fire(event, now)` is called when a timer comes."""
        self._loop = loop
        self._fire = fire
        self._pending: dict[Timer, asyncio.TimerHandle] = {}

    def set(self, effect: SetTimer) -> None:
        """Have this event come at its deadline."""
        self._cancel(effect.event)
        self._pending[effect.event] = self._loop.call_at(effect.deadline, self._fired, effect)

    def process_ended(self, effect: ProcessEnded) -> None:
        """No timer of a dead process is needed."""
        if self._pending:
            for event in (GraceExpired(effect.pid), StartOverdue(effect.pid), ExecutionOverdue(effect.pid)):
                self._cancel(event)

    def worker_ended(self, number: int) -> None:
        """Nobody looks whether a dead worker gives a sign of life."""
        self._cancel(ProbeDue(number))

    def service_changed(self, effect: ServiceChanged) -> None:
        """Only a service that backs off waits for its restart."""
        if effect.state is not State.BACKING_OFF:
            self._cancel(RestartDue(effect.service))

    def pending(self) -> int:
        """How many timers run."""
        return len(self._pending)

    def _cancel(self, event: Timer) -> None:
        timer = self._pending.pop(event, None)
        if timer is not None:
            timer.cancel()

    def _fired(self, effect: SetTimer) -> None:
        del self._pending[effect.event]
        self._fire(effect.event, max(effect.deadline, self._loop.time()))
