"""The supervisor: performs what the process table decides.

Owns the event loop, the children and the control channels. Each callback of the loop is one turn: it takes what came in,
tells the table, performs the effects in order, and writes to each peer once. It decides nothing about processes, runs no
user code, and parses nothing but frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import random
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from ..core.endings import WaitStatus
from ..core.service_states import State
from ..core.table import ProcessTable
from ..wire import journal, logs
from ..wire import journal_records as j
from ..wire import messages as m
from ..wire.channel import channel_pair
from ..wire.codec import encode
from ..wire.configuration import Application
from ..wire.errors import ProtocolViolation
from ..wire.failpoints import failpoint
from ..wire.mail import Mail
from ..wire.pid import remember
from . import control, operator, upgrades
from .attachment import EOF_GRACE, Turn
from .children import Child, Orphans, become_subreaper, own_children
from .confinement import Confinement
from .errors import StartError
from .farewell import Farewell
from .gateway import Gateway
from .guardian import Guarded, stand_guard
from .hangup import Hangup
from .host import Host
from .inspection import SIGNALS as INSPECTION_SIGNALS
from .inspection import handlers as inspection_handlers
from .journal import JournaledTable, SizesWatch
from .log import log_end, log_service
from .machine import check_spare_descriptors, node_name, raise_descriptor_limit
from .observer import Observer
from .reload import Reloader
from .systemd import environment
from .systemd.activation import Listening
from .systemd.manager import Contact, Manager
from .systemd.notify import Relay
from .temporary import make_base, remove_base
from .timers import Timers
from .usage import Usage, UsageWatch, watched
from .worker import WorkerHandle

logger = logging.getLogger("wsrelay")

PIDS = 256
"""PIDs whose parts are remembered: we look at one when its process begins, and when it ends."""
CANCEL_GRACE = 0.5
"""Seconds that actors have to end after CANCEL when the runtime shuts down."""
STOP_MARGIN = 1.0
"""Seconds beyond the grace and the stop timeouts: the dead have to be waited for."""
SHUTDOWN_MARGIN = 1.0
"""Seconds that the gateway has beyond its close timeout."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_SIGNAL = 0.2
"""Seconds within which a second signal to stop is the first one, told twice."""
KILL_TIMEOUT = 10.0
"""Seconds that a killed process has to be dead: freeing much memory takes a while."""

_BOUNDED = frozenset({m.Deliver, m.Reply, m.Failed, m.Members, m.GroupChanged, m.Executed})
"""What counts against a worker's mailbox; EXIT, LINK_DOWN and CANCEL are exempt (S10)."""
_NOTHING: tuple[object, bytes] = (None, b"")


def serve(
    application: Application,
    paths: Sequence[str],
    *,
    log_level: str = "info",
    log_format: str = "text",
    run_directory: str | None = None,
) -> int:
    """Run until SIGINT or SIGTERM, or until the runtime fails. Returns the exit code: in the guardian, which this process
    becomes, when nothing is left (S40); and in its child, the supervisor. `paths` is what a reload reads."""
    try:
        log_format = logs.resolve(log_format, os.environ)
    except OSError as problem:
        print(f"error: --log-format journal: {problem}", file=sys.stderr)  # noqa: T201
        return 1
    logs.setup(log_format, log_level)
    os.environ[logs.LEVEL_VARIABLE] = log_level  # for the gateway and the workers, which write to the same place
    os.environ[logs.FORMAT_VARIABLE] = log_format
    try:
        passed = environment.take(os.environ, os.getpid())
        relay = Relay(passed.notify) if passed.notify else None
        temporary = make_base(application.hosts.values())
    except (StartError, OSError) as problem:
        logger.error("%s", problem)
        return 1
    directory = control.run_directory(run_directory, os.environ)
    place = control.place(directory, paths, os.getpid())
    guarded = stand_guard(relay)
    if isinstance(guarded, int):
        remove_base(temporary)  # whatever became of the supervisor
        control.remove(place)
        return guarded
    journal.set_role("supervisor")
    remember(PIDS)
    faulthandler.enable()  # SIGABRT comes from the service manager's watchdog
    open_files = raise_descriptor_limit()
    become_subreaper()
    loop = asyncio.new_event_loop()
    try:
        listening = Listening(passed.descriptors, application.gateway.servers)
        contact = Contact(listening, None if relay is None else relay.for_supervisor(), passed.watchdog)
        confinement = Confinement(application.hosts.values(), temporary)
        supervisor = Supervisor(application, loop, guarded, contact, confinement, paths, open_files=open_files)
        supervisor.listen_for_commands(place, required=run_directory is not None)
        return supervisor.run()
    except StartError as problem:
        logger.error("%s", problem)
        return 1
    finally:
        loop.close()


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
        self.stopping = False
        self._guardian = guarded.guardian
        self._listening = contact.listening
        self._asked_to_stop = float("-inf")
        self.workers: dict[int, WorkerHandle] = {}
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._announced = False
        self._shutdown: asyncio.Task[None] | None = None
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
        self._confinement = confinement
        self._open_files = open_files
        self.hosts = {id: self.make_host(application, id) for id in application.hosts}
        self.reloader = Reloader(self, paths)
        self._control: control.Control | None = None
        self._hangup = Hangup()
        self._asked_to_reload = float("-inf")
        self.orphans = Orphans(self._known_children, self._is_newborn_group)
        self._farewell = Farewell()
        self._dead: list[tuple[WorkerHandle, Child, WaitStatus]] = []
        """Workers that are dead and not yet buried."""
        self._unreaped: set[int] = set()
        """The os_pids of those whose burial is under way."""
        self._encoded: tuple[object, bytes] = _NOTHING
        """The record that was sent last in this turn, and its frame."""
        self._sweeping = False
        self.usage = UsageWatch(
            loop, confinement.watched, self.workers, confinement.folders, confinement.cgroups, self._worker_measured
        )
        self._timers = Timers(loop, self._timer_fired)
        self.observer = Observer(loop, self)
        self.manager = Manager(loop, self, contact)
        self._perform_one: dict[type, Callable[[Any], None]] = {
            StartWorker: self._start_worker,
            PrepareUpgrade: self._prepare_upgrade,
            StartUpgraded: self._start_upgraded,
            SendToWorker: self._send_to_worker,
            SendToGateway: lambda effect: self.gateway.send(effect.record),
            KillWorker: self._kill_worker,
            SetTimer: self._timers.set,
            ProcessEnded: self._process_ended,
            ServiceChanged: self._service_changed,
        }

    def run(self) -> int:
        """Start everything, serve, and stop everything. Returns the exit code."""
        self.loop.set_exception_handler(self._failed)
        self.loop.add_reader(self._guardian, self._guardian_died)
        for number in STOP_SIGNALS:
            self.loop.add_signal_handler(number, self.stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            self.loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        for asked, answer in inspection_handlers(self._sizes, self._listing).items():
            self.loop.add_signal_handler(asked, answer)
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
            self._kill_everything()
            self._confinement.folders.close()
            self.gateway.close_sockets(self._sockets_are_kept, last=True)
            self.manager.close()
        if self._shutdown is not None:
            logger.info("%s", self._farewell.summary(self.loop.time()))
        return self.exit_code

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
        self._encoded = _NOTHING
        self.turn.flush()
        for waiter in self._waiters[:]:
            condition, future = waiter
            if condition():
                self._waiters.remove(waiter)
                if not future.done():
                    future.set_result(None)

    async def wait_for(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until a turn ends with `condition()` true, at most `timeout` seconds. Returns whether it is."""
        if condition():
            return True
        waiter = (condition, self.loop.create_future())
        self._waiters.append(waiter)
        try:
            await asyncio.wait_for(waiter[1], timeout)
        except TimeoutError:
            self._waiters.remove(waiter)
            return False
        return True

    # --- the gateway and the hosts ------------------------------------------------------------------------------------

    def from_gateway(self, record: tuple[Any, ...]) -> None:
        """The gateway wrote a record for the process table, or about a worker's channel."""
        if isinstance(record, m.ReportLost):
            self._fence(record.worker, record.detail)
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
                self._open_data(handle, self.table.worker_pid(handle.number))
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
        self.sweep()
        self.manager.changed()

    def gateway_failed(self, why: str) -> None:
        """The gateway cannot serve: there is nothing to supervise for."""
        if not self.stopping:
            logger.critical("%s", why)
            self.exit_code = 1
            self.loop.stop()

    def host_changed(self) -> None:
        """A host is ready, or gone: then what it had forked and not told of is gone too (S41a)."""
        self.sweep()
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
            self.stop()
        elif not self.stopping and self.loop.time() - self._asked_to_reload >= SAME_SIGNAL:
            self._asked_to_reload = self.loop.time()
            self.reloader.signalled()

    def now(self) -> float:
        """Seconds on the clock of the table."""
        return self.loop.time()

    def make_host(self, application: Application, id: str) -> Host:
        """A host of this configuration, which is not started. Raises StartError if this machine cannot confine it so."""
        configuration = application.hosts[id]
        enforcement = self._confinement.enforce(configuration)
        base = self._confinement.folders.base
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

    # --- for the service manager --------------------------------------------------------------------------------------

    def parts(self) -> dict[str, bool]:
        """What must serve, by its name for people, and whether it does."""
        hosts = {f"the host {host.id}": host.ready for host in self.hosts.values()}
        return {"the gateway": self.gateway.ready, **hosts}

    def services(self) -> dict[str, State]:
        """The state of every supervised service."""
        return {id: state for id, (state, _) in self.table.services().items()}

    def wanted_services(self) -> list[str]:
        """The services that start by themselves."""
        return [id for id, service in self.application.services.items() if service.lifecycle.auto_start]

    def census(self) -> tuple[int, int]:
        """How many connections, and how many other processes live."""
        return self.table.census()

    def _sockets_are_kept(self, server: str) -> bool:
        """Whether the service manager holds the listening sockets of a server too."""
        return self._listening.keeps(server, stores=self.manager.listens)

    # --- stopping -----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop in good order; called again, at once. A signal to all processes of a service comes twice: to us, and handed on
        by the guardian; that is one call."""
        now = self.loop.time()
        if now - self._asked_to_stop < SAME_SIGNAL:
            return
        self._asked_to_stop = now
        if self._shutdown is None:
            logger.info("stopping")
            self.stopping = True
            self.reloader.stop()
            self._farewell.begin(now)
            self.manager.stopping("closing the connections", self._close_time() + self._patience() + KILL_TIMEOUT)
            self._shutdown = self.loop.create_task(self._stop())
            self._shutdown.add_done_callback(self._stopped)
        else:
            logger.warning("stopping at once")
            self.loop.stop()

    async def _stop(self) -> None:
        """Close the clients, stop the services in order and ask the other actors to end (S39), then let `run` kill what is
        left."""
        self.perform(self.table.end_restarts())
        self.gateway.shut_down_clients()
        self.end_turn()
        self.gateway.close_sockets(self._sockets_are_kept, last=False)  # who comes now is refused, and tries elsewhere
        await self.wait_for(lambda: self.gateway.shut_down, self._close_time())
        patience = self._patience()
        self.manager.stopping("stopping the services", patience + KILL_TIMEOUT)
        self.perform(self.table.cancel_all(self.loop.time(), CANCEL_GRACE))
        self.end_turn()
        await self.wait_for(lambda: self.table.actors() == 0, patience)

    def _close_time(self) -> float:
        """Seconds that the gateway has to close all connections."""
        servers = self.application.gateway.servers
        return max((server.drain.within + server.timeouts.close for server in servers), default=0.0) + SHUTDOWN_MARGIN

    def _patience(self) -> float:
        """Seconds that the services and the other actors have to end."""
        return max(CANCEL_GRACE, self.table.stop_time()) + STOP_MARGIN

    def _stopped(self, shutdown: asyncio.Task[None]) -> None:
        if not shutdown.cancelled():  # by `_kill_everything`, which needs the loop
            self.loop.stop()

    def _kill_everything(self) -> None:
        """SIGKILL all that is ours, and reap it: nothing outlives the supervisor. It takes a moment, whatever comes."""
        self.stopping = True
        self.loop.remove_reader(self._guardian)
        for number in (*STOP_SIGNALS, signal.SIGHUP, *INSPECTION_SIGNALS):
            self.loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
        if self._shutdown is not None:
            self._shutdown.cancel()
        self.usage.stop()
        self.observer.stop()
        self.perform(self.table.kill_all())
        self.reloader.stop()
        self.reloader.kill()
        for host in self.hosts.values():
            host.stop()
        self.gateway.stop()
        try:
            self.loop.run_until_complete(self._all_dead())
        except RuntimeError:  # the loop is broken: the children die with us
            logger.exception("could not wait for the children to end")

    async def _all_dead(self) -> None:
        deadline = self.loop.time() + KILL_TIMEOUT
        while self.loop.time() < deadline:
            await self.wait_for(self._no_child_known, KILL_TIMEOUT)
            self.sweep()
            if not self.orphans.dying:
                return
            await self.wait_for(lambda: not self.orphans.dying, KILL_TIMEOUT)
        logger.error(
            "some processes did not die within %.0f s: %s",
            KILL_TIMEOUT,
            sorted(child.os_pid for child in own_children()),
        )

    def _no_child_known(self) -> bool:
        return not self._known_children()

    # --- workers ------------------------------------------------------------------------------------------------------

    def _start_worker(self, effect: StartWorker) -> None:
        self.observer.tally.starting(effect, self.loop.time())
        try:
            self._fork_worker(effect)
        except OSError as problem:
            logger.error("a worker of %s cannot be started: %s", effect.host, problem)
            self.loop.call_soon(self._start_failed, effect.worker, f"the worker cannot be started: {problem}")

    def _start_failed(self, number: int, detail: str) -> None:
        self.worker_failed(number, detail)
        self.end_turn()

    def make_handle(self, number: int, host: str, end: socket.socket) -> WorkerHandle:
        """Return a handle for a worker that is not born; `end` is our end of its control channel."""
        return WorkerHandle(
            self.loop,
            self.turn,
            number,
            host,
            self.application.hosts[host].limits.mailbox,
            end,
            self._worker_readable,
            self.table.mail_written,
            self.table.worker_has_read,
            self._channel_lost,
            self._worker_died,
        )

    def _fork_worker(self, effect: StartWorker) -> None:
        """Make a worker's channels and have its host fork it. Raises OSError if the descriptors do not suffice."""
        with contextlib.ExitStack() as stack:
            control_here, control_there = map(stack.enter_context, channel_pair())
            check_spare_descriptors(control_there.fileno() + 2)
            handle = self.make_handle(effect.worker, effect.host, control_here.dup())
            self.workers[effect.worker] = handle
            handle.send(effect.start)
            if effect.start.pid:
                failpoint("spawn.asked")
            self._open_data(handle, effect.start.pid)
            host = self.hosts[effect.host]
            self._confinement.expect(effect.worker, host.configuration, host.enforcement)
            host.fork(effect.worker, control_there.fileno())

    def _prepare_upgrade(self, effect: PrepareUpgrade) -> None:
        handle = self.workers[effect.worker]
        try:
            upgrades.prepare(handle, effect, self.make_handle)
        except OSError as problem:
            logger.error("%s cannot be upgraded: %s", effect.start.pid, problem)
            self.perform(self.table.upgrade_refused(effect.worker, str(problem)))

    def _start_upgraded(self, effect: StartUpgraded) -> None:
        """The old code is dead. The fork is asked for at the end of this turn, when it has been reaped."""
        logger.info("%s is upgraded to %s", effect.pid, effect.entry)
        self.observer.tally.upgrades[effect.entry] += 1
        handle = self.workers[effect.worker] = self.workers[effect.worker].receiving
        try:
            if effect.host not in self.hosts:  # a reload has removed it meanwhile
                raise OSError(f"{effect.host} is configured no more")
            upgrades.fork(handle, self.hosts[effect.host])
        except OSError as problem:
            logger.error("the new code of %s cannot be started: %s", effect.pid, problem)
            self.loop.call_soon(self._start_failed, effect.worker, f"its new code cannot be started: {problem}")

    def _open_data(self, handle: WorkerHandle, pid: str) -> None:
        """Make a worker's data channel, if there is a gateway; otherwise it gets one with the gateway. Raises OSError."""
        if not self.gateway.running:
            return
        data_gateway, data_worker = channel_pair()
        with data_gateway, data_worker:
            handle.receiving.attachment.send(m.OpenData(self.table.gateway), data_worker.fileno())
            self.gateway.send(m.OpenWorker(handle.number, pid), data_gateway.fileno())

    def _send_to_worker(self, effect: SendToWorker) -> None:
        handle = self.workers.get(effect.worker)
        if handle is None:
            return
        handle = handle.receiving
        record = effect.record
        if record is not self._encoded[0]:  # a message to many is one record
            self._encoded = (record, encode(record))
        handle.send_frame(self._encoded[1], bounded=type(record) in _BOUNDED)
        if handle.overflown:
            self.perform(self.table.worker_overflowed(effect.worker))

    def _kill_worker(self, effect: KillWorker) -> None:
        handle = self.workers.get(effect.worker)
        if handle is None:
            return
        if handle.child is None:  # a host that is stopped, or busy, must not hold this up (S30)
            for host in (*self.hosts.values(), *self.reloader.spare_hosts()):
                host.give_up(effect.worker)
        else:
            handle.child.kill()
            self._confinement.kill(effect.worker)

    def _timer_fired(self, event: Timer, now: float) -> None:
        if isinstance(event, RestartDue):
            failpoint("service.restarting")
        self.perform(self.table.timer_fired(event, now))
        self.end_turn()

    def _worker_readable(self, handle: WorkerHandle) -> None:
        """A worker has written, or its channel has ended."""
        self._take_from_worker(handle, handle.channel.receive())
        if handle.channel.violation is not None:
            handle.attachment.stop_reading()
            self.perform(self.table.worker_violated(handle.number, str(handle.channel.violation)))
        elif handle.channel.ended:
            handle.attachment.stop_reading()
            self.loop.call_later(EOF_GRACE, self._channel_lost, handle)
        self.end_turn()

    def _take_from_worker(self, handle: WorkerHandle, records: list[tuple[Any, ...]]) -> None:
        """Tell the table what a worker wrote."""
        now = self.loop.time()
        from_worker, number = self.table.from_worker, handle.number
        for record in records:
            if type(record) is not Mail:
                self.perform(from_worker(number, record, now))
            elif (route := self.table.mail_route(number, record.destination)) is not None:
                self._pass_on(record, *route)
            else:
                for send in record.sends():
                    self.perform(from_worker(number, send, now))

    def _pass_on(self, mail: Mail, sender: str, receiver: int) -> None:
        """What `_send_to_worker` does with each of the messages, once for all of them."""
        handle = self.workers.get(receiver)
        if handle is None:
            return
        handle = handle.receiving
        handle.send_frame(mail.deliver(sender), bounded=True, count=len(mail.rests))
        if handle.overflown:
            self.perform(self.table.worker_overflowed(receiver))

    def _worker_measured(self, number: int, usage: Usage) -> None:
        self.perform(self.table.worker_measured(number, *usage))
        self.end_turn()

    def _channel_lost(self, handle: WorkerHandle) -> None:
        """A control channel has ended. That of a worker's old code is nothing to the new one."""
        if self.workers.get(handle.number) is handle and not handle.is_dead:
            self._fence(handle.number, "its control channel ended")

    def _fence(self, number: int, detail: str) -> None:
        """A worker's channel has ended. If it lives on it is of no use; if it is dead, its wait status says why (S13), unless
        that is only the end of its old code."""
        handle = self.workers.get(number)
        if handle is not None and (handle.successor is not None or not handle.is_dead):
            self.perform(self.table.worker_lost(number, detail))
            self.end_turn()

    def worker_born(self, number: int, os_pid: int) -> None:
        """A host has forked a worker. Raises ProtocolViolation if that cannot be."""
        handle = self.workers.get(number)
        if handle is None or handle.child is not None or os_pid in self._known_children():
            raise ProtocolViolation("it names a worker or an OS process that it did not fork")
        try:
            child = Child(os_pid)
        except OSError as problem:
            raise ProtocolViolation(f"it names an OS process that is no child of ours: {problem}") from None
        try:
            self._confinement.take_in(number, os_pid)
        except OSError as problem:
            logger.error("%s: a worker's cgroup cannot be had: %s", handle.host, problem)
            child.kill()  # before it has read anything
        handle.born(child)
        self.observer.tally.born(number, self.loop.time())
        journal.write(j.Born(number, self.table.worker_pid(number), os_pid))
        self.perform(self.table.worker_born(number, self.loop.time()))

    def worker_failed(self, number: int, detail: str) -> None:
        """A worker will never be born."""
        handle = self.workers.pop(number, None)
        if handle is not None:
            handle.close()
            self._confinement.let_go(number)
        self.observer.tally.failed(number)
        self.perform(self.table.worker_failed(number, detail, self.loop.time()))

    def worker_unwanted(self, os_pid: int) -> None:
        """A host has forked a worker that was killed before. Raises ProtocolViolation if that cannot be."""
        if os_pid in self._known_children() or os_pid in self.orphans.dying:
            raise ProtocolViolation("it names an OS process that it did not fork")
        try:
            self._await_orphan(self.orphans.take(os_pid))
        except OSError as problem:
            raise ProtocolViolation(f"it names an OS process that is no child of ours: {problem}") from None

    def _worker_died(self, handle: WorkerHandle) -> None:
        """A worker's pidfd is readable. Those that die together are buried together."""
        child = handle.child
        if child is None or (status := child.status()) is None:
            return
        failpoint("death.noticed")
        self.loop.remove_reader(child.pidfd)
        self._timers.worker_ended(handle.number)
        if self.application.gateway.is_observed and handle.successor is None:
            self.gateway.send(m.DeathNoticed(handle.number, time.monotonic()))
        if not self._dead:
            self.loop.call_soon(self._bury_the_dead)
        self._dead.append((handle, child, status))

    def _bury_the_dead(self) -> None:
        """The order of these steps is S2, S14 and S16. What the dead have left behind is killed before anything is read or
        told. The sweep that is sure to find all of it reads all of /proc; nobody waits for it."""
        dead, self._dead = self._dead, []
        self._unreaped.update(child.os_pid for _, child, _ in dead)
        for handle, child, _ in dead:
            self._confinement.kill(handle.number)
            child.kill_group()
        self.sweep(quick=True)
        upgraded = False
        for handle, _, status in dead:
            self._take_from_worker(handle, handle.channel.drain())
            failpoint("death.drained")
            status = status._replace(out_of_memory=self._confinement.out_of_memory(handle.number))
            self.perform(self.table.worker_exited(handle.number, status, self.loop.time()))
            failpoint("death.committed")
            if self.workers[handle.number] is handle:
                del self.workers[handle.number]
                if handle.successor is not None:
                    handle.successor.close()
            else:
                upgraded = True
            handle.close()
        if not upgraded:  # nobody waits for the sweep; but new code must not run beside what the old has left (S35)
            self.end_turn()
            failpoint("death.published")
        self.sweep()
        for handle, child, _ in dead:
            child.reap()
            self._unreaped.discard(child.os_pid)
            if handle.number not in self.workers:  # new code has what the old had
                self._confinement.let_go(handle.number)
            failpoint("death.reaped")
            if self.workers.get(handle.number) is not None:
                failpoint("upgrade.reaped")
        self.end_turn()
        if upgraded:
            failpoint("death.published")

    def _process_ended(self, effect: ProcessEnded) -> None:
        self._timers.process_ended(effect)
        self.observer.tally.ended(effect)
        if self.stopping:
            self._farewell.ended(effect)
        log_end(effect)

    def _service_changed(self, effect: ServiceChanged) -> None:
        self._timers.service_changed(effect)
        self.observer.tally.service_changed(effect)
        log_service(effect)
        self.manager.changed()

    # --- orphans ------------------------------------------------------------------------------------------------------

    def _sweep_soon(self) -> None:
        """Sweep once, however many orphans have died just now: theirs are ours from then on."""
        if not self._sweeping:
            self._sweeping = True
            self.loop.call_soon(self._sweep_again)

    def _sweep_again(self) -> None:
        self._sweeping = False
        self.sweep()
        self.end_turn()

    def sweep(self, *, quick: bool = False) -> None:
        """Kill what dead workers have left behind, and reap it when it is dead."""
        try:
            found = self.orphans.sweep(quick=quick)
        except OSError as problem:  # no descriptor to spare; the next death sweeps again
            logger.error("cannot look for what dead workers have left behind: %s", problem)
            return
        for orphan in found:
            logger.info("killed os process %d, left behind by a worker that ended", orphan.os_pid)
            self._await_orphan(orphan)

    def _await_orphan(self, orphan: Child) -> None:
        self.loop.add_reader(orphan.pidfd, self._orphan_died, orphan)

    def _orphan_died(self, orphan: Child) -> None:
        if orphan.status() is not None:
            self.loop.remove_reader(orphan.pidfd)
            self.orphans.reap(orphan)
            self._sweep_soon()

    # --- views --------------------------------------------------------------------------------------------------------

    def _sizes(self) -> dict[str, int]:
        return {
            **self.table.statistics(),
            "connections": self.table.census()[0],
            "timers": self._timers.pending(),
            "orphans": len(self.orphans.dying),
            "gateway": self.table.gateway if self.gateway.ready else 0,
        }

    def _listing(self) -> Iterator[dict[str, Any]]:
        """Every OS process that we have started, and the process that it runs."""
        if self.gateway.child is not None:
            yield {"kind": "gateway", "os_pid": self.gateway.child.os_pid, "entry": ""}
        for host in (*self.hosts.values(), *self.reloader.spare_hosts()):
            if host.child is not None:
                yield {"kind": "host", "os_pid": host.child.os_pid, "entry": host.id}
        for handle in self.workers.values():
            if handle.child is not None:
                facts = self.table.worker_facts(handle.number)
                yield {"kind": "worker", "os_pid": handle.child.os_pid, "host": handle.host, **facts}

    def running(self) -> Iterator[tuple[int, str]]:
        """Every worker that has an OS process: its os_pid, and the entry that it runs."""
        for handle in self.workers.values():
            if handle.child is not None:
                yield handle.child.os_pid, str(self.table.worker_facts(handle.number)["entry"])

    def _known_children(self) -> set[int]:
        """The os_pids of all children that we have started."""
        children = [self.gateway.child]
        children += [host.child for host in self.hosts.values()]
        children += [handle.child for handle in self.workers.values()]
        known = {child.os_pid for child in children if child is not None}
        return known | self._unreaped | self.reloader.children()

    def _is_newborn_group(self, group: int) -> bool:
        hosts = (*self.hosts.values(), *self.reloader.spare_hosts())
        return any(host.child is not None and host.child.os_pid == group for host in hosts)
