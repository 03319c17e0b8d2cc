"""The supervisor: performs what the process table decides.

Owns the event loop, its turns, and the control channels of workers. Each callback of the loop is one turn: it takes what came in,
tells the table, performs the effects in order, and writes to each peer once. It decides nothing about processes, runs no
user code, and parses nothing but frames. What takes several steps has a room: `births`, `burials` and `sweeping`, `stopping`,
`reload`; and what is only looked at is in `views`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..core.effects import (
    Effect,
    KillWorker,
    PrepareUpgrade,
    ProcessEnded,
    RestartDue,
    SendToGateway,
    SendToWorker,
    ServiceChanged,
    SetTimer,
    StartUpgraded,
    StartWorker,
    Timer,
)
from ..core.table import ProcessTable
from ..wire import journal
from ..wire import journal_records as j
from ..wire import messages as m
from ..wire.configuration import Application
from ..wire.failpoints import failpoint
from . import control, operator
from .alarms import Alarms
from .attachment import Turn
from .births import Births
from .burials import Burials
from .confinement import Confinement
from .errors import StartError
from .gateway import Gateway
from .guardian import LATER, Guarded
from .hangup import Hangup
from .host import Host
from .inspection import SIGNALS as INSPECTION_SIGNALS
from .inspection import handlers as inspection_handlers
from .journal import JournaledTable, SizesWatch
from .log import log_end, log_service
from .machine import node_name
from .observer import Observer
from .reload import Reloader
from .stopping import SAME_SIGNAL, Stopping
from .sweeping import Sweeper
from .systemd.activation import Listening
from .systemd.manager import Contact, Manager
from .timers import Timers
from .usage import Usage, UsageWatch, watched
from .views import Views
from .waiters import Waiters
from .worker import WorkerHandle
from .worker_channels import WorkerChannels

logger = logging.getLogger("wsrelay")

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Supervisor:
    """One boot of the runtime."""

    def __init__(
        self,
        application: Application,
        loop: asyncio.AbstractEventLoop,
        guarded: Guarded,
        contact: Contact,
        confinement: Confinement,
        paths: Sequence[str],
        *,
        open_files: int,
    ) -> None:
        """Binds the listening sockets that were not passed: raises StartError. `open_files` is the soft limit that workers get."""
        self.loop = loop
        self.turn = Turn()
        self.application = application
        self.exit_code = 0
        self._guardian = guarded.guardian
        self._listening = contact.listening
        self.workers: dict[int, WorkerHandle] = {}
        self._waiters = Waiters(loop)
        self._announced = False
        node, epoch = node_name(), secrets.token_hex(8)
        make_table = JournaledTable if journal.ON else ProcessTable
        self.table = make_table(application, node=node, epoch=epoch, random=random.random)
        if journal.ON:
            SizesWatch(loop, self.table.statistics).look()
        self.gateway = Gateway(
            loop,
            self.turn,
            application.gateway,
            self,
            lambda packed: m.Configure(self.table.gateway, node, epoch, packed),
            contact.listening.open,
        )
        self.confinement = confinement
        self._open_files = open_files
        self.hosts = {id: self.make_host(application, id) for id in application.hosts}
        self.reloader = Reloader(self, paths)
        self._control: control.Control | None = None
        self._hangup = Hangup()
        self._asked_to_reload = float("-inf")
        self.usage = UsageWatch(
            loop,
            confinement.watched,
            self.workers,
            confinement.folders,
            confinement.cgroups,
            Alarms(confinement.folders.base),
            self._worker_measured,
        )
        self.timers = Timers(loop, self._timer_fired)
        self.sweeper = Sweeper(loop, self.known_children, self._is_newborn_group, self.end_turn)
        self.views = Views(self)
        self.observer = Observer(loop, self, self.views)
        self.manager = Manager(loop, self.views, contact)
        self._burials = Burials(self)
        self._channels = WorkerChannels(self, self._burials.worker_died)
        self._births = Births(self, self.observer.tally, self._channels.make_handle)
        self._stopping = Stopping(self)
        self._perform_one: dict[type, Callable[[Any], None]] = {
            StartWorker: self._births.start_worker,
            PrepareUpgrade: self._births.prepare_upgrade,
            StartUpgraded: self._births.start_upgraded,
            SendToWorker: self._channels.send,
            SendToGateway: lambda effect: self.gateway.send(effect.record),
            KillWorker: self._channels.kill,
            SetTimer: self.timers.set,
            ProcessEnded: self._process_ended,
            ServiceChanged: self._service_changed,
        }

    def run(self) -> int:
        """Start everything, serve, and stop everything. Returns the exit code."""
        self.loop.set_exception_handler(self._failed)
        self.loop.add_reader(self._guardian, self._guardian_died)
        for number in STOP_SIGNALS:
            self.loop.add_signal_handler(number, self._stopping.ask)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            self.loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        for asked, answer in inspection_handlers(self.views.sizes, self.views.listing).items():
            self.loop.add_signal_handler(asked, answer)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LATER)
        try:
            self._listening.store(self.manager.notify)
            self.manager.start()
            self.gateway.start()
            for host in self.hosts.values():
                host.start()
            self._watch_usage()
            if self.application.gateway.is_observed:
                self.observer.start()
            self.perform(self.table.start(self.loop.time()))
            self.end_turn()
            self.loop.run_forever()
        finally:
            if self._control is not None:
                self._control.close()
            self._be_deaf()
            self._stopping.kill_everything()
            self.confinement.folders.close()
            self.gateway.close_sockets(self.sockets_are_kept, last=True)
            self.manager.close()
        self._stopping.log_summary()
        return self.exit_code

    @property
    def stopping(self) -> bool:
        """Whether the runtime stops."""
        return self._stopping.begun

    def _be_deaf(self) -> None:
        """Nothing that comes now holds the end up."""
        self.loop.remove_reader(self._guardian)
        numbers = {*STOP_SIGNALS, signal.SIGHUP, *INSPECTION_SIGNALS}
        # Where a handler of the loop is removed, Python's own is there for a moment: SIGINT would raise KeyboardInterrupt.
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        for number in numbers:
            self.loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
        self.usage.stop()
        self.observer.stop()

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback raised: the tables may be wrong. Stop at once rather than go on with them."""
        logger.critical("internal error: %s", context.get("message"), exc_info=context.get("exception"))
        self.exit_code = 70  # EX_SOFTWARE, sysexits.h
        loop.stop()

    def _guardian_died(self) -> None:
        """Nobody would sweep after us (S40), nor hand on a signal to us: end, and leave nothing."""
        logger.critical("the parent of the supervisor, which guards it, is gone: stopping at once")
        self.exit_code = 1
        self.loop.remove_reader(self._guardian)
        self.loop.stop()

    # --- turns --------------------------------------------------------------------------------------------------------

    def perform(self, effects: list[Effect]) -> None:
        """Perform what the table wants, in order."""
        for effect in effects:
            self._perform_one[type(effect)](effect)

    def end_turn(self) -> None:
        """Write what this turn has queued, and wake who waits for something that is now so."""
        self._channels.end_turn()
        self.turn.flush()
        self._waiters.look()

    async def wait_for(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until a turn ends with `condition()` true, at most `timeout` seconds. Returns whether it is."""
        return await self._waiters.wait_for(condition, timeout)

    # --- the gateway and the hosts ------------------------------------------------------------------------------------

    def from_gateway(self, record: tuple[Any, ...]) -> None:
        """The gateway wrote a record for the process table, or about a worker's channel."""
        if isinstance(record, m.ReportLost):
            self._channels.fence(record.worker, record.detail)
        elif isinstance(record, m.Observe):
            self.gateway.send(m.Observed(record.request, self.observer.observe()))
        else:
            self.perform(self.table.from_gateway(record))

    def gateway_started(self) -> None:
        """There is a gateway, which does not serve yet: every worker that lives gets its data channel first (S41)."""
        if self.gateway.child is not None:
            journal.write(j.GatewayStarted(self.table.gateway, self.gateway.child.os_pid))
        if self._announced:
            failpoint("gateway.restarted")
        for handle in list(self.workers.values()):
            try:
                self._births.open_data(handle, self.table.worker_pid(handle.number))
            except OSError as problem:
                self.perform(self.table.worker_lost(handle.number, f"no data channel to the gateway: {problem}"))

    def gateway_ready(self) -> None:
        """The gateway accepts connections."""
        journal.write(j.GatewayServes(self.table.gateway))
        self._announce_if_ready()

    def gateway_lost(self) -> None:
        """The gateway is dead, and its connections with it (S41)."""
        failpoint("gateway.lost")
        self.perform(self.table.gateway_lost())
        self.sweeper.sweep()
        self.manager.changed()

    def gateway_failed(self, why: str) -> None:
        """The gateway cannot serve: there is nothing to supervise for."""
        if not self.stopping:
            logger.critical("%s", why)
            self.exit_code = 1
            self.loop.stop()

    def host_changed(self) -> None:
        """A host is ready, or gone: then what it had forked and not told of is gone too (S41a)."""
        self.sweeper.sweep()
        self._announce_if_ready()

    def host_failed(self, host: Host) -> None:
        """A host cannot be what its configuration asks for: nothing may run that was to be confined. One of a reload that is not
        in force yet is a reason to refuse that."""
        if not self.stopping and self.hosts.get(host.id) is host:
            logger.critical("%s", host.failed)
            self.exit_code = 1
            self.loop.stop()

    def _announce_if_ready(self) -> None:
        """Log where we listen, once the gateway and every host are ready."""
        self.manager.changed()
        if not self._announced and self.gateway.ready and all(host.ready for host in self.hosts.values()):
            self._announced = True
            for server, place in self.gateway.places():
                logger.info("serving %s on %s", server, place)
            if not self.application.gateway.servers:
                logger.info("ready: no http.service is configured")

    # --- for operators: commands and reloads ----------------------------------------------------------------------------

    def listen_for_commands(self, place: Path, *, required: bool) -> None:
        """Have a control socket. Raises StartError if it cannot be had and is `required`."""
        made = control.Control(self.loop, place, lambda request: operator.answer(self, request))
        try:
            made.start()
            self._control = made
        except StartError as problem:
            if required:
                raise
            logger.warning("%s: only signals reach this runtime", problem)

    def _hung_up(self) -> None:
        """SIGHUP: a reload, or the end if it came because the terminal that we were started from is gone."""
        if self._hangup.terminal_is_gone():
            self._stopping.ask()
        elif not self.stopping and self.loop.time() - self._asked_to_reload >= SAME_SIGNAL:
            self._asked_to_reload = self.loop.time()
            self.reloader.signalled()

    def now(self) -> float:
        """Seconds on the clock of the table."""
        return self.loop.time()

    def make_host(self, application: Application, id: str) -> Host:
        """A host of this configuration, which is not started. Raises StartError if this machine cannot confine it so."""
        configuration = application.hosts[id]
        enforcement = self.confinement.enforce(configuration)
        base = self.confinement.folders.base
        return Host(self.loop, self.turn, configuration, enforcement, base, self._open_files, self)

    def _watch_usage(self) -> None:
        """Look at what workers use, as the hosts that serve limit it."""
        self.usage.start(watched(host.configuration, host.enforcement) for host in self.hosts.values())

    def pinned_servers(self) -> frozenset[str]:
        """The servers whose listening sockets a socket unit has passed."""
        return self._listening.pinned

    def sockets_exchanged(self, old: Iterable[str], new: Sequence[tuple[str, socket.socket]]) -> None:
        """A reload has changed where we listen."""
        Listening.exchange(list(old), new, self.manager.notify)
        self._watch_usage()
        self.manager.changed()
        for server, where in self.gateway.places():
            if any(server == id for id, _ in new):
                logger.info("serving %s on %s", server, where)

    def reloading(self) -> None:
        """A reload begins."""
        self.manager.reloading()

    def reloaded(self) -> None:
        """A reload has ended."""
        self.manager.reloaded()

    def sockets_are_kept(self, server: str) -> bool:
        """Whether the service manager holds the listening sockets of a server too."""
        return self._listening.keeps(server, stores=self.manager.listens)

    # --- workers ------------------------------------------------------------------------------------------------------

    def _timer_fired(self, event: Timer, now: float) -> None:
        if isinstance(event, RestartDue):
            failpoint("service.restarting")
        self.perform(self.table.timer_fired(event, now))
        self.end_turn()

    def _worker_measured(self, number: int, usage: Usage) -> None:
        self.perform(self.table.worker_measured(number, *usage))
        self.end_turn()

    def take_from_worker(self, handle: WorkerHandle, records: list[tuple[Any, ...]]) -> None:
        """Tell the table what a worker wrote."""
        self._channels.take(handle, records)

    def worker_born(self, number: int, os_pid: int) -> None:
        """A host has forked a worker. Raises ProtocolViolation if that cannot be."""
        self._births.worker_born(number, os_pid)

    def worker_failed(self, number: int, detail: str) -> None:
        """A worker will never be born."""
        self._births.worker_failed(number, detail)

    def worker_unwanted(self, os_pid: int) -> None:
        """A host has forked a worker that was killed before. Raises ProtocolViolation if that cannot be."""
        self._births.worker_unwanted(os_pid)

    def _process_ended(self, effect: ProcessEnded) -> None:
        self.timers.process_ended(effect)
        self.observer.tally.ended(effect)
        self._stopping.process_ended(effect)
        log_end(effect)

    def _service_changed(self, effect: ServiceChanged) -> None:
        self.timers.service_changed(effect)
        self.observer.tally.service_changed(effect)
        log_service(effect)
        self.manager.changed()

    def known_children(self) -> set[int]:
        """The os_pids of all children that we have started."""
        children = [self.gateway.child]
        children += [host.child for host in self.hosts.values()]
        children += [handle.child for handle in self.workers.values()]
        known = {child.os_pid for child in children if child is not None}
        return known.union(self._burials.unreaped(), self.reloader.children())

    def _is_newborn_group(self, group: int) -> bool:
        hosts = (*self.hosts.values(), *self.reloader.spare_hosts())
        return any(host.child is not None and host.child.os_pid == group for host in hosts)
