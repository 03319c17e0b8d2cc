"""Supervised services: started in order, restarted by policy, stopped in reverse (S36 to S39).

Owns what each service is told to be and what has become of it. A service has *started* when its process has been forked: its
PID and its name exist from the spawn on, and what is sent to them meanwhile waits for it (S3, S5). `requires` orders the
start and the stop; it does not couple failures (S42): a restart waits for nobody, and a death takes nobody along.
Why a process ended, and making one, are the table's business.
"""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ..wire import messages as m
from ..wire.configuration import RELOAD_TOPIC, Service
from ..wire.errors import Invalid, NotFound, ProcessError
from ..wire.reason import KILLED, WireReason, make_reason
from .cancellation import Cancellation
from .effects import RestartDue, SendToWorker, ServiceChanged, SetTimer, StartOverdue
from .population import Population, require
from .processes import Process
from .restarts import NO_PAST, Comeback, Past, plan_restart, wants_restart
from .service_states import ALIVE, BEING_STOPPED, COMING, TRANSITIONS, Input, State
from .spawning import Spawning

_NONE = b"\xc0"
"""None, packed."""


@dataclass(slots=True, eq=False)
class Record:
    """A service, and where it is."""

    service: Service
    state: State = State.STOPPED
    pid: str = ""
    """Of its process; empty if it has none."""
    running_since: float | None = None
    due: float | None = None
    """When its backoff is over."""
    past: Past = NO_PAST
    leaving: bool = False
    """It is configured no more, and forgotten when its process has ended."""
    overtaken: bool = False
    """Since it was told to stop, a reload has made services require it that run: those do not stop for its sake."""


class Verdict(NamedTuple):
    """What follows from the end of a service's process, or from a spawn that was refused."""

    input: Input
    detail: str
    comeback: Comeback | None = None
    replaced: bool = False
    """The next process is made at once, because somebody asked for it."""

    @property
    def returns(self) -> bool:
        """Whether another process of the service follows (S49)."""
        return self.replaced or self.comeback is not None


class Services:
    """All services of an application."""

    def __init__(
        self,
        population: Population,
        spawning: Spawning,
        cancellation: Cancellation,
        services: dict[str, Service],
        random: Callable[[], float],
    ) -> None:
        """`random() -> [0, 1)` is for the jitter. Raises graphlib.CycleError if `services` require each other in a circle."""
        self._population = population
        self._spawning = spawning
        self._cancellation = cancellation
        self._random = random
        self.on_changed: Callable[[str, State], None] = lambda service, state: None
        """Told of a service that is in another state."""
        self._closed = False
        self._killing = False
        self._records: dict[str, Record] = {}
        """In an order in which they can be started."""
        self._dependents: dict[str, list[str]] = {}
        self._arrange({id: Record(service) for id, service in services.items()})

    def _arrange(self, records: dict[str, Record]) -> None:
        """Put the records in order. Raises graphlib.CycleError."""
        requirements = {
            id: [each for each in record.service.lifecycle.requires if each in records]
            for id, record in records.items()
        }
        self._records = {id: records[id] for id in graphlib.TopologicalSorter(requirements).static_order()}
        self._dependents = {id: [] for id in records}
        for id, required in requirements.items():
            for each in required:
                self._dependents[each].append(id)

    # --- another configuration ----------------------------------------------------------------------------------------

    def reconfigure(self, services: dict[str, Service], now: float) -> None:
        """Have these services from now on. What is configured no more is told to stop, and forgotten when it has ended; what is
        new is stopped; the others go on, and their next process is made as configured now."""
        records = dict(self._records)
        for id, service in services.items():
            record = records.setdefault(id, Record(service))
            record.service, record.leaving = service, False
            most = service.lifecycle.restart.intensity
            record.past = record.past._replace(restarts=record.past.restarts[-most:] if most else ())
        removed = [id for id in reversed(records) if id not in services]
        for id in removed:
            records[id].leaving = True
        self._arrange(records)
        for id, record in records.items():
            if record.state is State.STOPPING and any(self._records[each].pid for each in self._dependents[id]):
                record.overtaken = True
        for id in removed:
            self.stop(id, now)
        self._forget_gone()
        self._start_ready(now)
        self._stop_ready(now)

    def _forget_gone(self) -> None:
        if any(record.leaving and not record.pid for record in self._records.values()):
            self._arrange({id: record for id, record in self._records.items() if record.pid or not record.leaving})

    def replace(self, id: str, now: float) -> bool:
        """Ask the process of a service to end, and make the next when it has. Returns whether it had one that runs: what is
        about to start is started as configured anyway. Raises NotFound."""
        self._check(id)
        record = self._records[id]
        if self._closed or not self._move(id, Input.REPLACE, "told to restart"):
            return False
        record.past = NO_PAST
        self._cancellation.signal(
            self._population.processes[record.pid], "", round(record.service.lifecycle.stop_timeout * 1000), now
        )
        return True

    def notify(self, id: str) -> None:
        """Tell the process of a service, if there is one, that there is new code."""
        record = self._records.get(id)
        if record is not None and record.pid:
            process = self._population.processes[record.pid]
            self._population.effects.append(SendToWorker(process.worker, m.Deliver("", RELOAD_TOPIC, _NONE)))

    # --- told to start or stop (S39) ----------------------------------------------------------------------------------

    def start_all(self, now: float) -> None:
        """Start what has `auto_start`, and what that requires."""
        for id, record in self._records.items():
            if record.service.lifecycle.auto_start:
                self._want(id)
        self._start_ready(now)

    def start(self, id: str, now: float) -> None:
        """Start a service and what it requires. Its failures so far are forgotten. Raises NotFound, or Invalid while it stops."""
        self._check(id)
        if self._closed:
            raise Invalid("the runtime is stopping: no service starts any more")
        for each in self._with_required(id):
            if self._records[each].state in BEING_STOPPED:
                raise Invalid(f"{each} is being stopped: start {id} when it has stopped")
        self._want(id)
        self._start_ready(now)

    def stop(self, id: str, now: float) -> None:
        """Stop a service, after all that require it. Raises NotFound."""
        self._check(id)
        for each in reversed(_closure(id, self._dependents.__getitem__)):
            self._move(each, Input.STOP, "told to stop")
        self._stop_ready(now)

    def end_restarts(self) -> None:
        """Nothing starts any more, not even after a death; what runs goes on until it is stopped."""
        self._closed = True
        for id, record in self._records.items():
            if not record.pid:
                self._move(id, Input.STOP, "the runtime stops")

    def stop_all(self, now: float) -> None:
        """Stop everything; nothing starts after it."""
        self._close()
        self._stop_ready(now)

    def kill_all(self) -> None:
        """Kill everything, those first that require others; nothing starts after it."""
        self._killing = True
        self._close()
        for record in reversed(self._records.values()):
            if record.pid:
                process = self._population.processes[record.pid]
                self._population.kill(process, make_reason(KILLED, "the runtime shuts down"))

    def _close(self) -> None:
        self._closed = True
        for id in reversed(self._records):
            self._move(id, Input.STOP, "the runtime stops")

    def _check(self, id: str) -> None:
        if id not in self._records:
            raise NotFound(f"no process.service entry {id!r}: expected the id of one, namespace:name")

    def _with_required(self, id: str) -> list[str]:
        """The service, and what must start with it: what it requires, and that is stopped."""
        inactive = BEING_STOPPED | {State.STOPPED}
        return _closure(
            id,
            lambda one: [
                each
                for each in self._records[one].service.lifecycle.requires
                if each in self._records and self._records[each].state in inactive
            ],
        )

    def _want(self, id: str) -> None:
        for each in reversed(self._with_required(id)):
            if self._move(each, Input.START, "told to start" if each == id else f"{id} requires it"):
                self._records[each].past = NO_PAST

    def _start_ready(self, now: float) -> None:
        for record in self._records.values():
            required = (self._records[each] for each in record.service.lifecycle.requires if each in self._records)
            if record.state is State.WAITING and all(
                each.state in (State.RUNNING, State.FINISHED) for each in required
            ):
                self._move(record.service.id, Input.REQUIREMENTS_RUN, "")
                self._spawn(record, now)

    def _stop_ready(self, now: float) -> None:
        if self._killing:
            return
        for id in reversed(self._records):
            record = self._records[id]
            if record.state is State.RETIRING and not any(self._records[each].pid for each in self._dependents[id]):
                self._move(id, Input.DEPENDENTS_GONE, "")
                grace = round(record.service.lifecycle.stop_timeout * 1000)
                self._cancellation.signal(self._population.processes[record.pid], "", grace, now)

    # --- a process is made, born, overdue -----------------------------------------------------------------------------

    def _spawn(self, record: Record, now: float) -> None:
        """Make a process that has the service's name from the start (S36). A refusal counts like a death."""
        service = record.service
        try:
            self._spawning.check(service.process, service.host, service.register, service.id)
        except ProcessError as refusal:
            self.settle(service.id, self._decide(record, make_reason(refusal.code, str(refusal)), now), now)
            return
        process = self._spawning.create(
            service.process, service.host, service.arguments, parent="", name=service.register, service=service.id
        )
        record.pid = process.pid
        self._population.effects.append(SetTimer(now + service.lifecycle.start_timeout, StartOverdue(process.pid)))

    def born(self, process: Process, now: float) -> None:
        """A process has been forked. If it is a service's, the service has started."""
        if process.service and self._move(process.service, Input.BORN, process.pid):
            self._records[process.service].running_since = now
            self._start_ready(now)

    def start_overdue(self, event: StartOverdue) -> None:
        """`start_timeout` is over: what is still not forked is killed, and its end counts like any other."""
        process = self._population.processes.get(event.pid)
        if process is not None and self._records[process.service].state is State.STARTING:
            self._population.kill(process, make_reason(KILLED, "it was not forked within start_timeout"))

    def restart_due(self, event: RestartDue, now: float) -> None:
        """A backoff may be over."""
        record = self._records.get(event.service)
        if record is not None and record.due is not None and record.due <= now:
            record.past = record.past._replace(restarts=(*record.past.restarts[:-1], now))  # the timer may come late
            self._move(event.service, Input.DELAY_OVER, "")
            self._spawn(record, now)

    # --- a process ended (S36 to S38) ---------------------------------------------------------------------------------

    def judge(self, process: Process, reason: WireReason, now: float) -> Verdict | None:
        """Decide what follows from a death that is about to be committed; None if it is no service's."""
        record = self._records.get(process.service)
        if record is None:
            return None
        if record.state in BEING_STOPPED:
            return Verdict(Input.END, str(reason))
        if record.state is State.REPLACING:
            if self._closed:
                return Verdict(Input.FINISH if reason.clean else Input.FAIL, str(reason))
            return Verdict(Input.END, str(reason), replaced=True)
        return self._decide(record, reason, now)

    def _decide(self, record: Record, reason: WireReason, now: float) -> Verdict:
        lifecycle = record.service.lifecycle
        if self._closed or not wants_restart(lifecycle.restart, reason):
            return Verdict(Input.FINISH if reason.clean else Input.FAIL, str(reason))
        stable = record.running_since is not None and now - record.running_since >= lifecycle.stable_threshold
        comeback = plan_restart(lifecycle.restart, record.past, stable=stable, now=now, random=self._random())
        if comeback is not None:
            return Verdict(Input.RESTART, f"{reason}; again in {comeback.due - now:.3g} s", comeback)
        limit = f"more than {lifecycle.restart.intensity} restarts within {lifecycle.restart.period:g} s"
        return Verdict(Input.FAIL, f"{reason}; given up: {limit}")

    def settle(self, id: str, verdict: Verdict, now: float) -> None:
        """Do what was decided, after the death has been committed."""
        record = self._records[id]
        record.pid, record.running_since = "", None
        self._move(id, verdict.input, verdict.detail)
        if verdict.comeback is not None:
            record.due, record.past = verdict.comeback
            self._population.effects.append(SetTimer(record.due, RestartDue(id)))
        if verdict.replaced:
            self._spawn(record, now)
        self._forget_gone()
        self._start_ready(now)
        self._stop_ready(now)

    def _move(self, id: str, input: Input, detail: str) -> bool:
        """Follow the table. Returns whether the input means anything in this state."""
        record = self._records[id]
        state = TRANSITIONS.get((record.state, input))
        if state is None:
            return False
        record.state, record.due, record.overtaken = state, None, False
        self._population.effects.append(ServiceChanged(id, state, detail))
        self.on_changed(id, state)
        return True

    @property
    def closed(self) -> bool:
        """Whether the runtime stops: nothing starts any more."""
        return self._closed

    def is_coming(self, id: str) -> bool:
        """Whether a service, if there is one of this id, has a process that may go on or will have one."""
        return id in self._records and self._records[id].state in COMING

    # --- views --------------------------------------------------------------------------------------------------------

    def states(self) -> dict[str, tuple[State, str]]:
        """Every service's state, and the PID of its process or an empty string."""
        return {id: (record.state, record.pid) for id, record in self._records.items()}

    def stop_time(self) -> float:
        """How many seconds `stop_all` can take: the longest chain of stop timeouts."""
        longest: dict[str, float] = {}
        for id, record in reversed(self._records.items()):
            own = record.service.lifecycle.stop_timeout if record.pid else 0.0
            longest[id] = own + max((longest[each] for each in self._dependents[id]), default=0.0)
        return max(longest.values(), default=0.0)

    def check_invariants(self) -> None:
        """Raise AssertionError if states, processes and policy disagree."""
        for id, record in self._records.items():
            policy = record.service.lifecycle.restart
            process = self._population.processes.get(record.pid)
            require((record.state in ALIVE) == bool(record.pid), "a service has a process in the states that say so")
            require(not record.pid or (process is not None and process.service == id), "a service's process is its own")
            require((record.state is State.BACKING_OFF) == (record.due is not None), "a backoff has an end")
            require(len(record.past.restarts) <= policy.intensity, "restarts keep to the intensity (S37)")
            dependents = [self._records[each] for each in self._dependents[id]]
            if record.state is State.STOPPING and not record.overtaken:
                require(not any(each.pid for each in dependents), "a service stops after those that require it (S39)")
            if record.state is State.RETIRING and not self._killing:
                require(any(each.pid for each in dependents), "a service waits only for those that require it")
            if self._closed:
                require(record.state not in (State.WAITING, State.BACKING_OFF), "nothing starts after stop (S39)")
            if record.leaving:
                require(record.state in BEING_STOPPED, "what is configured no more is being stopped")
        for pid, process in self._population.processes.items():
            require(not process.service or self._records[process.service].pid == pid, "a service has one process")


def _closure(id: str, following: Callable[[str], Iterable[str]]) -> list[str]:
    """`id`, and all that follows from it, each once and after one that it follows from."""
    found = {id: None}
    queue = [id]
    for each in queue:
        queue += (new := [more for more in following(each) if more not in found])
        found |= dict.fromkeys(new)
    return queue
