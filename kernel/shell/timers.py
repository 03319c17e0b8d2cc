"""The timers that the process table asks for, on the event loop.

One for each event: setting it again moves it, and what is no longer needed is cancelled, so that no timer outlives its cause.
Events of several kinds may say the same of themselves, a PID: so the kind is part of what a timer is found by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..core.effects import ProbeDue, ProcessEnded, RestartDue, ServiceChanged, SetTimer, Timer
from ..core.service_states import State


class Timers:
    """What is to be told to the table, and when."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fire: Callable[[Timer, float], None]) -> None:
        """`fire(event, now)` is called when a timer comes."""
        self._loop = loop
        self._fire = fire
        self._pending: dict[str | int, dict[type[Timer], asyncio.TimerHandle]] = {}
        """By what they are about: the PID of a process, the number of a worker, the id of a host or a service."""

    def set(self, effect: SetTimer) -> None:
        """Have this event come at its deadline."""
        event = effect.event
        self._cancel(event[0], type(event))
        timer = self._loop.call_at(effect.deadline, self._fired, effect)
        self._pending.setdefault(event[0], {})[type(event)] = timer

    def process_ended(self, effect: ProcessEnded) -> None:
        """No timer of a dead process is needed."""
        for timer in self._pending.pop(effect.pid, {}).values():
            timer.cancel()

    def worker_ended(self, number: int) -> None:
        """Nobody looks whether a dead worker gives a sign of life."""
        self._cancel(number, ProbeDue)

    def service_changed(self, effect: ServiceChanged) -> None:
        """Only a service that backs off waits for its restart."""
        if effect.state is not State.BACKING_OFF:
            self._cancel(effect.service, RestartDue)

    def pending(self) -> int:
        """How many timers run."""
        return sum(map(len, self._pending.values()))

    def _cancel(self, subject: str | int, kind: type[Timer]) -> None:
        timers = self._pending.get(subject, {})
        timer = timers.pop(kind, None)
        if timer is not None:
            timer.cancel()
            if not timers:
                del self._pending[subject]

    def _fired(self, effect: SetTimer) -> None:
        event = effect.event
        self._cancel(event[0], type(event))
        self._fire(event, max(effect.deadline, self._loop.time()))
