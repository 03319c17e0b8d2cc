"""What the supervisor tells the service manager in the course of its life: ready, status, watchdog, reloading, stopping.

Owns the timers of it. What is well and what is ready is decided in `core.duties` and `core.readiness`. Without a service manager
it does nothing but wait for readiness, which is logged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from ...core.duties import Duties
from ...core.readiness import PATIENCE, summary, unsettled
from ...core.service_states import State
from .activation import Listening
from .notify import Outlet

logger = logging.getLogger("wsrelay")

STATUS_INTERVAL = 2.0
"""Seconds between two looks whether the status has changed."""
TICKS = 4
"""Signs of life within the watchdog's time: one that is missed is no end."""
_RETRY = 0.1


class Subject(Protocol):
    """What is reported on."""

    def parts(self) -> Mapping[str, bool]:
        """Each part that must serve, by its name for people, and whether it does."""

    def services(self) -> Mapping[str, State]:
        """The supervised services, by id."""

    def wanted_services(self) -> Sequence[str]:
        """Those that start by themselves."""

    def census(self) -> tuple[int, int]:
        """How many connections and other processes live."""


class Contact(NamedTuple):
    """What there is of a service manager at the start."""

    listening: Listening
    outlet: Outlet | None = None
    """Where notifications go; None if nobody listens."""
    watchdog: float = 0.0
    """Seconds within which a sign of life is wanted; 0 for none."""


class Manager:
    """The service manager, as the supervisor sees it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, subject: Subject, contact: Contact) -> None:
        """Says nothing before `start`."""
        self._loop = loop
        self._subject = subject
        self._outlet = contact.outlet
        self._interval = contact.watchdog / TICKS
        self._duties = Duties(list(subject.parts()), loop.time())
        self._serving_since: float | None = None
        self._ready = False
        self._phase = ""
        self._status = ""
        self._complaint = ""
        self._looking = False
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}

    @property
    def listens(self) -> bool:
        """Whether there is a service manager that was told of."""
        return self._outlet is not None

    @property
    def ready(self) -> bool:
        """Whether the runtime has said that it is ready, and does not stop yet."""
        return self._ready and not self._phase

    def start(self) -> None:
        """Start the timers."""
        if self._outlet is not None:
            self._tell_status()
        if self._interval > 0:
            self._feed()

    def close(self) -> None:
        """Say nothing more."""
        for timer in self._timers.values():
            timer.cancel()
        if self._outlet is not None:
            self._outlet.close()
            self._outlet = None

    def notify(self, text: str, descriptors: Sequence[int] = ()) -> None:
        """Send a notification."""
        if self._outlet is not None:
            self._outlet.send(text.encode(), descriptors)
            self._retry_later()

    def _retry_later(self) -> None:
        if self._outlet is not None and self._outlet.waiting:
            self._after(_RETRY, self._retry)

    def _retry(self) -> None:
        if self._outlet is not None:
            self._outlet.retry()
            self._retry_later()

    def _after(self, delay: float, callback: Callable[[], None]) -> None:
        if (timer := self._timers.get(callback)) is not None:
            timer.cancel()
        self._timers[callback] = self._loop.call_later(delay, callback)

    # --- what happens -------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """A part or a service has changed: look at the end of this turn."""
        if not self._looking:
            self._looking = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._looking = False
        now = self._loop.time()
        parts = self._subject.parts()
        self._duties.keep_only(parts)
        for part, well in parts.items():
            self._duties.report(part, well, now)
        if not self._ready and not self._phase and all(parts.values()):
            self._look_whether_ready(now)

    def _look_whether_ready(self, now: float) -> None:
        if self._serving_since is None:
            self._serving_since = now
        services = self._subject.services()
        missing = unsettled(services, self._subject.wanted_services())
        patience = self._serving_since + PATIENCE - now
        if missing and patience > 0:
            self._after(patience, self._look)
            return
        if missing:
            logger.warning("ready, though after %.0f s these services do not run: %s", PATIENCE, ", ".join(missing))
        self._ready = True
        self.notify(f"READY=1\n{self._status_line()}")

    def reloading(self) -> None:
        """A reload begins; `reloaded` says when it is done."""
        if not self.ready:
            return
        self.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\nSTATUS=reloading")

    def reloaded(self) -> None:
        """A reload is done, whether it has changed anything or not."""
        self.changed()
        if self.ready:
            self.notify(f"READY=1\n{self._status_line()}")

    def stopping(self, phase: str, seconds: float) -> None:
        """The runtime stops: `phase` says how far it is, which takes at most so many seconds from now on."""
        extend = f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}"
        first = "" if self._phase else "STOPPING=1\n"
        self._phase = phase
        self.notify(f"{first}{self._status_line()}\n{extend}")

    # --- timers -------------------------------------------------------------------------------------------------------

    def _tell_status(self) -> None:
        if (line := self._status_line()) != self._status:
            self._status = line
            self.notify(line)
        self._after(STATUS_INTERVAL, self._tell_status)

    def _status_line(self) -> str:
        connections, processes = self._subject.census()
        phase = self._phase or self._complaint or ("serving" if self._ready else "starting")
        text = f"{phase}: {connections} connections, {processes} processes"
        services = self._subject.services()
        return f"STATUS={text}" + (f", {summary(services)}" if services else "")

    def _feed(self) -> None:
        """Give a sign of life, if the duties are met. A runtime that stops has its own time limits."""
        self._look()
        complaint = self._duties.tick(self._interval, self._loop.time())
        if self._phase or not complaint:
            self.notify("WATCHDOG=1")
        elif complaint != self._complaint:
            logger.error("no sign of life for the service manager's watchdog: %s", complaint)
        self._complaint = complaint
        self._after(self._interval, self._feed)
