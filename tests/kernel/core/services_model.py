"""Services, and a naive model of them beside the table: what the one did is what the other asks for.

The model keeps the whole past and searches it. It is told only what the outside does: processes are forked, end, are refused;
time passes; somebody starts and stops services; the runtime shuts down.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis.stateful import RuleBasedStateMachine
from wsrelay.kernel.core.effects import (
    Effect,
    KillWorker,
    ProcessEnded,
    RestartDue,
    SendToGateway,
    SendToWorker,
    ServiceChanged,
    SetTimer,
    StartWorker,
)
from wsrelay.kernel.core.service_states import State
from wsrelay.kernel.core.table import ProcessTable
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import Application, Entry, HostConfiguration, Lifecycle, Restart, Service

ROOM = {"t:big": 100, "t:tiny": 1}


def service(name: str, type: str, *requires: str, host: str = "t:big", register: str | None = None, auto: bool = True,
            intensity: int = 3, period: float = 20.0) -> Service:  # fmt: skip
    restart = Restart(type, 1.0, 6.0, 2.0, 0.5, intensity, period)
    lifecycle = Lifecycle(auto, requires, 4.0, 2.0 + len(name) / 10, 5.0, restart)
    return Service(name, "t:actor", host, name.encode(), register, lifecycle)


SERVICES = {
    each.id: each
    for each in (
        service("chat", "transient", "store", "users", register="chat"),
        service("store", "permanent", register="store"),
        service("users", "permanent", "store", intensity=1),
        service("setup", "temporary"),
        service("batch", "transient", "setup", "tools", intensity=0),
        service("tools", "transient", auto=False),
        service("one", "permanent", host="t:tiny", intensity=50, period=30.0),
        service("two", "transient", "one", host="t:tiny", register="two"),
    )
}
NAMED = [id for id, each in SERVICES.items() if each.register]


@dataclass
class Life:
    """What the model knows of a service."""

    service: Service
    wanted: bool = False
    """Told to start, and neither told to stop nor at its end since."""
    outcome: str = ""
    """Of the last end for good."""
    pid: str = ""
    forked: float | None = None
    cancelled: bool = False
    row: int = 0
    restarts: list[float] = field(default_factory=list)
    """All since it was told to start."""
    due: float | None = None
    over: bool = False
    """Its delay is, and the timer has come."""
    ever: int = 0
    """How many processes it had since it was told to start, refused ones too."""

    def delay(self, random: float) -> float:
        policy = self.service.lifecycle.restart
        exact = policy.initial_delay
        for _ in range(self.row - 1):
            exact *= policy.backoff_factor
        return min(exact, policy.max_delay) * (1 - policy.jitter + 2 * policy.jitter * random)


class ServicesComparison(RuleBasedStateMachine):
    """Both, the clock, and the timers that were asked for. Rules are added below it."""

    def __init__(self) -> None:
        super().__init__()
        self.random = 0.5
        self.now = 1000.0
        self.table = ProcessTable(
            Application(
                hosts={id: HostConfiguration(id, max_processes=most, functions=1) for id, most in ROOM.items()},
                processes={"t:actor": Entry("t:actor", "file:///actor.py", "main")},
                functions={"t:f": Entry("t:f", "file:///f.py", "f")},
                function_hosts={"t:f": "t:big"},
                services=SERVICES,
            ),
            node="n",
            epoch="00112233445566ff",
            random=lambda: self.random,
        )
        self.lives = {id: Life(SERVICES[id]) for id in self.table.services()}
        """In the order in which the table starts those that are ready together."""
        self.timers: list[SetTimer] = []
        self.workers: dict[str, int] = {}
        self.started: list[str] = []
        """Services that got a process in this step."""
        self.cancelled: list[str] = []
        self.failed: list[str] = []
        self.delayed: list[tuple[str, float]] = []
        """Services whose restart was announced in this step, and when it is due."""
        self.owed: list[tuple[str, float]] = []
        """The same by the model."""
        self.pids: set[str] = set()
        self.doomed: set[str] = set()
        self.closed = False
        self.killed = False
        self.requests = 10
        self.connections = 0
        self.bound: dict[str, str] = {}
        """Connections whose target lives, to its service."""
        self.held: dict[str, str] = {}
        """Those that wait for it."""

    # --- what the table did -------------------------------------------------------------------------------------------

    def take(self, effects: list[Effect]) -> None:
        self.started, self.cancelled, self.failed, self.delayed = [], [], [], []
        by_worker = {worker: pid for pid, worker in self.workers.items()}
        for effect in effects:
            match effect:
                case StartWorker(number, _, start) if start.pid:
                    assert start.pid not in self.pids, "a restart has a new PID (S36)"
                    self.pids.add(start.pid)
                    self.workers[start.pid] = number
                    self.started.append(start.arguments.decode())
                    self.lives[self.started[-1]].pid = start.pid
                case SendToWorker(number, m.CancelSignal("", grace)):
                    [id] = [id for id, life in self.lives.items() if life.pid == by_worker[number]]
                    assert grace == round(SERVICES[id].lifecycle.stop_timeout * 1000)
                    self.cancelled.append(id)
                case KillWorker(number):
                    if number in by_worker:
                        self.doomed.add(by_worker[number])
                case SetTimer(deadline, event):
                    self.timers.append(effect)
                    if isinstance(event, RestartDue):
                        self.delayed.append((event.service, deadline))
                case ServiceChanged(id, State.FAILED, detail):
                    assert detail
                    self.failed.append(id)
                case SendToGateway(m.ServiceReturned(connection, pid, worker)):
                    id = self.held.pop(connection)
                    self.bound[connection] = id
                    assert (pid, worker) == (self.lives[id].pid, self.workers[pid]), "the new process (S56)"
                case SendToGateway(m.ServiceGone(connection)):
                    del self.held[connection]
                case ServiceChanged() | ProcessEnded() | StartWorker() | SendToWorker() | SendToGateway():
                    pass

    def settle(self, effects: list[Effect], *, failed: tuple[str, ...] = ()) -> None:
        """Compare with what the model says follows by itself: starts of those that wait, CANCELs of those that retire."""
        pids = {id: life.pid for id, life in self.lives.items()}
        self.take(effects)
        new = {id: life.pid for id, life in self.lives.items()}
        for id, life in self.lives.items():
            life.pid = pids[id]
        gone = list(failed)
        starts: list[str] = []
        while ready := [id for id in self.lives if self.is_ready(id)]:
            self.attempt(ready[0], new, starts, gone)
        assert self.started == starts
        assert sorted(self.delayed) == sorted(self.owed), "delays are those of the formula (S38)"
        self.owed = []
        assert sorted(self.failed) == sorted(gone), "a service that is given up shows (S37)"
        retiring = [id for id, life in self.lives.items() if life.pid and not life.wanted and not life.cancelled]
        expected = [id for id in retiring if not any(self.lives[each].pid for each in self.dependents(id))]
        if self.killed:
            expected = []
        assert sorted(self.cancelled) == sorted(expected), "stopped in reverse order (S39)"
        for id in expected:
            self.lives[id].cancelled = True

    def is_ready(self, id: str) -> bool:
        life = self.lives[id]
        if life.pid or not life.wanted or (life.due is not None and not life.over):
            return False
        required = [self.lives[each] for each in life.service.lifecycle.requires]
        return life.ever > 0 or all(
            (each.forked is not None and each.wanted) or each.outcome == "finished" for each in required
        )

    def attempt(self, id: str, new: dict[str, str], starts: list[str], gone: list[str]) -> None:
        """A process is made, or refused."""
        life = self.lives[id]
        life.due, life.over, life.outcome = None, False, ""
        life.ever += 1
        if life.ever > 1:
            life.restarts.append(self.now)
        host = life.service.host
        if sum(bool(each.pid) for each in self.lives.values() if each.service.host == host) < ROOM[host]:
            assert new[id], "there is room"
            life.pid = new[id]
            starts.append(id)
        elif not self.end(id, clean=False):
            gone.append(id)

    def end(self, id: str, *, clean: bool) -> bool:
        """A process has ended, or none could be made. Returns whether there will be another."""
        life = self.lives[id]
        stable = life.forked is not None and self.now - life.forked >= life.service.lifecycle.stable_threshold
        life.pid, life.forked, life.cancelled = "", None, False
        policy = life.service.lifecycle.restart
        if not life.wanted:
            return False
        if policy.type == "permanent" or (policy.type == "transient" and not clean):
            life.row = 1 if stable else life.row + 1
            due = self.now + life.delay(self.random)
            if sum(due - policy.period < time for time in life.restarts) < policy.intensity:
                life.due = due
                self.owed.append((id, due))
                return True
            clean = False
        life.wanted = False
        life.outcome = "finished" if clean else "failed"
        return False

    def dependents(self, id: str) -> list[str]:
        return [other for other, each in SERVICES.items() if id in each.lifecycle.requires]

    def all_dependents(self, id: str) -> set[str]:
        return {id}.union(*(self.all_dependents(each) for each in self.dependents(id)))

    def want(self, id: str) -> None:
        """Told to start: with what it requires, but for what has failed or done its work."""
        life = self.lives[id]
        if not life.wanted:
            self.lives[id] = Life(life.service, wanted=True)
            for each in life.service.lifecycle.requires:
                if not self.lives[each].wanted and not self.lives[each].outcome:
                    self.want(each)

    def up(self) -> list[str]:
        return [id for id, life in self.lives.items() if life.pid]
