"""CANCEL and terminate: how one process has another end (S29 to S31).

Owns the CANCELs that may be unread, of which one from each sender is enough (S10). A process's grace is kept with the process,
and what follows when it runs out is decided here.
"""

from __future__ import annotations

from ..wire import messages as m
from ..wire.errors import ProtocolViolation
from ..wire.reason import KILLED, make_reason
from .effects import GraceExpired, SendToWorker, SetTimer
from .population import Population, require
from .processes import Kind, Process


class Cancellation:
    """What processes, and the runtime itself, ask to end."""

    def __init__(self, population: Population) -> None:
        self._population = population
        self._waiting: dict[int, set[str]] = {}
        """Worker to the senders of CANCELs that may be unread (S10). Dropped when the queue is written (`mail_written`)."""

    def cancel(self, sender: Process, request: m.Cancel, now: float) -> None:
        """A process cancels another; nothing happens if that has ended. Raises ProtocolViolation for a connection, whose CANCEL
        goes to the gateway."""
        process = self._population.processes.get(request.pid)
        if process is None:
            return
        if process.kind is Kind.CONNECTION:
            raise ProtocolViolation("CANCEL of a connection on the control channel")
        self.signal(process, sender.pid, request.grace, now)

    def signal(self, process: Process, sender: str, grace: int | None, now: float) -> None:
        """Send CANCEL, if none of this sender waits already; an empty `sender` is the runtime. SIGKILL follows `grace`
        milliseconds later, or earlier if that was said before (S29)."""
        waiting = self._waiting.setdefault(process.worker, set())
        if sender not in waiting:
            waiting.add(sender)
            self._population.effects.append(SendToWorker(process.worker, m.CancelSignal(sender, grace)))
        if grace is not None:
            deadline = now + grace / 1000
            if process.deadline is None or deadline < process.deadline:
                process.deadline = deadline
                self._population.effects.append(SetTimer(deadline, GraceExpired(process.pid)))

    def signal_actors(self, grace: int, now: float) -> None:
        """Send CANCEL to every actor that is not a service's: those are stopped in an order."""
        for process in self._population.processes.values():
            if process.kind is Kind.ACTOR and not process.service:
                self.signal(process, "", grace, now)

    def grace_expired(self, event: GraceExpired, now: float) -> None:
        """A grace may be over: it is, unless a shorter one has taken its place."""
        process = self._population.processes.get(event.pid)
        if process is not None and process.deadline is not None and process.deadline <= now:
            self._population.kill(process, make_reason(KILLED, "its grace after CANCEL ran out"))

    def terminate(self, sender: Process, request: m.Terminate) -> None:
        """A process has another killed; nothing happens if that has ended (S30)."""
        if process := self._population.processes.get(request.pid):
            self._population.kill(process, make_reason(KILLED, f"terminated by {sender.pid}"))

    def mail_written(self, number: int) -> None:
        """All that was queued for a worker has been written: none of its CANCELs waits here any more (S10)."""
        if self._waiting:
            self._waiting.pop(number, None)

    def forget(self, number: int) -> None:
        """No CANCEL that was sent to a worker concerns what it is from now on: it is dead, or another process or code."""
        self._waiting.pop(number, None)

    def check_invariants(self) -> None:
        """Raise AssertionError if a CANCEL waits for a worker that is dead."""
        for number in self._waiting:
            require(number in self._population.workers, "a CANCEL waits only for the living")
