"""The supervisor's journal: every record that goes into the process table, and every effect that comes out of it.

`JournaledTable` is the process table with its seam written down. It takes part in no decision, reads nothing of the table but
its public views, and exists only while journals are on. The checker makes its own model from what is written here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..core.effects import (
    Effect,
    KillWorker,
    ProcessEnded,
    SendToGateway,
    SendToWorker,
    ServiceChanged,
    StartUpgraded,
    StartWorker,
    Timer,
)
from ..core.endings import WaitStatus
from ..core.table import ProcessTable
from ..wire import journal_records as j
from ..wire import messages as m
from ..wire.configuration import Application
from ..wire.journal import write


class JournaledTable(ProcessTable):
    """The process table, journaled."""

    def __init__(self, application: Application, *, node: str, epoch: str, random: Callable[[], float]) -> None:
        super().__init__(application, node=node, epoch=epoch, random=random)
        self._application = application
        self._services_spawned: dict[str, str] = {}
        write(j.Booted(node, epoch))
        for service in application.services.values():
            write(_configured(service))

    # --- what comes in ------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        """Journaled."""
        return self._written(super().start(now))

    def from_worker(self, number: int, record: tuple[Any, ...], now: float) -> list[Effect]:
        """Journaled."""
        caller = self.worker_pid(number)
        effects = super().from_worker(number, record, now)
        return self._written(effects, caller, number, record)

    def from_gateway(self, record: tuple[Any, ...]) -> list[Effect]:
        """Journaled."""
        effects = super().from_gateway(record)
        granted = [effect for effect in effects if isinstance(effect, SendToGateway)]
        if isinstance(record, m.Admit) and any(isinstance(effect.record, m.Admitted) for effect in granted):
            write(j.Spawned(record.connection, "connection", "", 0, record.invocation, ""))
        return self._written(effects)

    def worker_exited(self, number: int, status: WaitStatus, now: float) -> list[Effect]:
        """Journaled."""
        return self._written(super().worker_exited(number, status, now))

    def worker_failed(self, number: int, detail: str, now: float) -> list[Effect]:
        """Journaled."""
        return self._written(super().worker_failed(number, detail, now))

    def worker_violated(self, number: int, detail: str) -> list[Effect]:
        """Journaled."""
        return self._written(super().worker_violated(number, detail))

    def worker_lost(self, number: int, detail: str = "its control channel ended") -> list[Effect]:
        """Journaled."""
        return self._written(super().worker_lost(number, detail))

    def worker_overflowed(self, number: int) -> list[Effect]:
        """Journaled."""
        return self._written(super().worker_overflowed(number))

    def worker_measured(self, number: int, memory: int, processes: int = 0, disk: int = 0) -> list[Effect]:
        """Journaled."""
        return self._written(super().worker_measured(number, memory, processes, disk))

    def worker_born(self, number: int, now: float) -> list[Effect]:
        """Journaled."""
        return self._written(super().worker_born(number, now))

    def gateway_lost(self) -> list[Effect]:
        """Journaled."""
        write(j.GatewayLost(self.gateway))
        return self._written(super().gateway_lost())

    def timer_fired(self, event: Timer, now: float) -> list[Effect]:
        """Journaled."""
        return self._written(super().timer_fired(event, now))

    def start_service(self, service: str, now: float) -> list[Effect]:
        """Journaled."""
        return self._written(super().start_service(service, now))

    def stop_service(self, service: str, now: float) -> list[Effect]:
        """Journaled."""
        return self._written(super().stop_service(service, now))

    def replace_service(self, service: str, now: float) -> list[Effect]:
        """Journaled."""
        return self._written(super().replace_service(service, now))

    def notify_service(self, service: str) -> list[Effect]:
        """Journaled."""
        return self._written(super().notify_service(service))

    def renew_functions(self, host: str) -> list[Effect]:
        """Journaled."""
        return self._written(super().renew_functions(host))

    def reconfigure(self, application: Application, now: float) -> list[Effect]:
        """Journaled."""
        self._application = application
        for service in application.services.values():
            write(_configured(service))
        return self._written(super().reconfigure(application, now))

    def end_restarts(self) -> list[Effect]:
        """Journaled."""
        write(j.Stopping())
        return self._written(super().end_restarts())

    def cancel_all(self, now: float, grace: float) -> list[Effect]:
        """Journaled."""
        return self._written(super().cancel_all(now, grace))

    def kill_all(self) -> list[Effect]:
        """Journaled."""
        write(j.Stopping())
        return self._written(super().kill_all())

    # --- what comes out -----------------------------------------------------------------------------------------------

    def _written(
        self, effects: list[Effect], caller: str = "", number: int = 0, record: tuple[Any, ...] = ()
    ) -> list[Effect]:
        """Write what was granted, then what follows from it. What is made because something died comes after that death, and
        the process of a service after the state that it was made in."""
        as_it_comes = any(isinstance(effect, (ProcessEnded, ServiceChanged)) for effect in effects)
        children = self._write_spawned([] if as_it_comes else effects, caller)
        if record:
            answer = next(
                (
                    effect.record
                    for effect in effects
                    if isinstance(effect, SendToWorker) and effect.worker == number and _answers(effect.record, record)
                ),
                None,
            )
            self._write_request(caller, record, answer, children)
        for effect in effects:
            self._write_effect(effect)
            if as_it_comes:
                self._write_spawned([effect], caller)
        return effects

    def _write_spawned(self, effects: list[Effect], parent: str) -> list[str]:
        """Write the actors that have been made, and return their PIDs. Those that nobody asked for are services'."""
        made = [effect for effect in effects if isinstance(effect, StartWorker) and effect.start.pid]
        if not made:
            return []
        services = {pid: id for id, (_, pid) in self.services().items() if pid}
        for effect in made:
            pid = effect.start.pid
            service = services.get(pid, "")
            write(j.Spawned(pid, "actor", effect.start.entry, effect.worker, "" if service else parent, service))
            name = self._application.services[service].register if service else None
            if name is not None:
                write(j.Named(name, pid))
        return [effect.start.pid for effect in made]

    def _write_request(
        self, caller: str, record: tuple[Any, ...], answer: tuple[Any, ...] | None, children: list[str]
    ) -> None:
        if isinstance(record, m.Terminate):
            write(j.TerminateAsked(caller, record.pid))
        elif isinstance(record, m.Cancel):
            write(j.CancelAsked(caller, record.pid, -1 if record.grace is None else record.grace))
        elif isinstance(answer, m.Failed):
            if isinstance(record, (m.Register, m.SpawnNamed)) and answer.error == "AlreadyExists":
                write(j.NameRefused(record.name, caller, answer.pid or ""))
        elif answer is not None:
            self._write_granted(caller, record, answer, children)

    def _write_granted(
        self, caller: str, record: tuple[Any, ...], answer: tuple[Any, ...], children: list[str]
    ) -> None:
        value = getattr(answer, "value", None)
        if isinstance(record, (m.Spawn, m.SpawnNamed)):
            if isinstance(record, m.SpawnNamed):
                write(j.Named(record.name, children[0]))
            if record.link:
                write(j.LinkMade(caller, children[0]))
            if record.monitor:
                write(j.MonitorMade(caller, record.request, children[0]))
        elif make := _GRANTED.get(type(record)):
            write(make(caller, record, value))
        elif isinstance(record, m.WatchGroup) and isinstance(answer, m.Members):
            write(j.GroupWatched(caller, record.request, record.group, answer.pids))
        elif isinstance(answer, m.Members):
            write(j.MembersListed(getattr(record, "group", ""), caller, answer.pids))

    def _write_effect(self, effect: Effect) -> None:
        if isinstance(effect, SendToWorker):
            told = effect.record
            receiver = self.worker_pid(effect.worker)
            if isinstance(told, m.Exit):
                write(j.ExitTold(receiver, told.ref, told.pid, told.reason.kind, told.reason.origin or ""))
            elif isinstance(told, m.LinkDown):
                write(j.LinkDownTold(receiver, told.pid, told.reason.kind, told.reason.origin or ""))
            elif isinstance(told, m.GroupChanged):
                write(j.GroupTold(receiver, told.ref, told.pid, told.joined))
            elif isinstance(told, m.Invoke):
                write(j.Spawned(told.pid, "invocation", told.entry, effect.worker, "", ""))
        elif isinstance(effect, ProcessEnded):
            write(j.Died(effect.pid, effect.reason.kind, effect.reason.origin or ""))
        elif isinstance(effect, KillWorker):
            write(j.KillOrdered(effect.worker, ""))
        elif isinstance(effect, SendToGateway) and isinstance(effect.record, m.EndConnection):
            write(j.KillOrdered(0, effect.record.connection))
        elif isinstance(effect, StartUpgraded):
            write(j.Upgraded(effect.pid, effect.entry))
        elif isinstance(effect, ServiceChanged):
            write(j.ServiceChanged(effect.service, effect.state.value))


class SizesWatch:
    """Writes the sizes of the tables, a few times a second, when they have changed."""

    INTERVAL = 0.2
    """Seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sizes: Callable[[], dict[str, int]]) -> None:
        self._loop = loop
        self._sizes = sizes
        self._last: dict[str, int] = {}

    def look(self) -> None:
        """Write what is new, and look again later, as long as the loop runs."""
        sizes = self._sizes()
        if sizes != self._last:
            self._last = sizes
            write(j.TableSizes(tuple(sizes.items())))
        self._loop.call_later(self.INTERVAL, self.look)


_GRANTED: dict[type, Callable[[str, Any, Any], tuple[Any, ...]]] = {
    m.Monitor: lambda caller, record, value: j.MonitorMade(caller, record.request, record.pid),
    m.Unmonitor: lambda caller, record, value: j.MonitorRemoved(caller, record.ref, ""),
    m.UnmonitorAll: lambda caller, record, value: j.MonitorRemoved(caller, 0, record.pid),
    m.Link: lambda caller, record, value: j.LinkMade(caller, record.pid),
    m.Unlink: lambda caller, record, value: j.LinkRemoved(caller, record.pid),
    m.SetOptions: lambda caller, record, value: j.TrapSet(caller, record.trap_links),
    m.Register: lambda caller, record, value: j.Named(record.name, record.pid),
    m.Unregister: lambda caller, record, value: j.Unnamed(record.name, caller),
    m.Lookup: lambda caller, record, value: j.LookedUp(record.name, caller, value or ""),
    m.JoinGroup: lambda caller, record, value: j.GroupJoined(record.group, record.pid, value),
    m.UnwatchGroup: lambda caller, record, value: j.GroupUnwatched(caller, record.ref),
    m.LeaveGroup: lambda caller, record, value: j.GroupLeft(record.group, record.pid, value),
}
"""What is written for a request that was granted, from its caller, itself and the answer's value."""


def _answers(effect: tuple[Any, ...], request: tuple[Any, ...]) -> bool:
    return isinstance(effect, (m.Reply, m.Failed, m.Members)) and effect.request == getattr(request, "request", None)


def _configured(service: Any) -> j.ServiceConfigured:
    restart = service.lifecycle.restart
    return j.ServiceConfigured(
        service.id,
        restart.type,
        restart.initial_delay,
        restart.max_delay,
        restart.backoff_factor,
        restart.jitter,
        restart.intensity,
        restart.period,
        service.lifecycle.stable_threshold,
        service.register or "",
    )
