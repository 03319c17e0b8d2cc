"""The supervisor: performs what the process table decides.

Owns the event loop, the children and the control channels. Each callback of the loop is one turn: it takes what came in,
tells the table, performs the effects in order, and writes to each peer once. It decides nothing about processes, runs no
user code, and parses nothing but frames.
"""

from __future__ import annotations

import asyncio
import logging
import random
import resource
import secrets
import signal
import socket
from collections.abc import Callable
from typing import Any

from ..core.effects import (
    Effect,
    KillWorker,
    ProcessEnded,
    SendToGateway,
    SendToWorker,
    ServiceChanged,
    SetTimer,
    StartWorker,
)
from ..core.service_states import State
from ..core.table import ProcessTable
from ..wire import messages as m
from ..wire.channel import channel_pair
from ..wire.configuration import Application
from ..wire.errors import ProtocolViolation
from .attachment import Turn
from .children import Child, Orphans, become_subreaper, own_children
from .gateway import Gateway
from .host import Host
from .listeners import ListenError
from .worker import WorkerHandle

logger = logging.getLogger("wsrelay")

EOF_GRACE = 0.1
"""Seconds between the end of a worker's control channel and its fence: EOF may come before the wait status (S13)."""
CANCEL_GRACE = 1.0
"""Seconds that actors have to end after CANCEL when the runtime shuts down."""
SHUTDOWN_MARGIN = 1.0
"""Seconds that the gateway has beyond its close timeout."""
KILL_TIMEOUT = 10.0
"""Seconds that a killed process has to be dead: freeing much memory takes a while."""

_BOUNDED = frozenset({m.Deliver, m.Reply, m.Failed, m.Members, m.GroupChanged, m.Executed})
"""What counts against a worker's mailbox; EXIT, LINK_DOWN and CANCEL are exempt (S10)."""


def serve(application: Application, *, log_level: str = "info") -> int:
    """Run until SIGINT or SIGTERM, or until the runtime fails. Returns the exit code."""
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)-7s %(message)s")
    open_files = raise_descriptor_limit()
    become_subreaper()
    loop = asyncio.new_event_loop()
    try:
        supervisor = Supervisor(application, loop, open_files=open_files)
        return supervisor.run()
    except ListenError as problem:
        logger.error("%s", problem)
        return 1
    finally:
        loop.close()


def raise_descriptor_limit() -> int:
    """Raise the soft limit on descriptors to the hard one; return what it was, which is what workers get."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def node_name() -> str:
    """This machine's name, as it stands in PIDs."""
    name = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "_.-") else "-" for letter in socket.gethostname()
    )
    return name[:64] or "localhost"


class Supervisor:
    """One boot of the runtime."""

    def __init__(self, application: Application, loop: asyncio.AbstractEventLoop, *, open_files: int) -> None:
        """Binds the listening sockets: raises ListenError. `open_files` is the soft limit that workers get."""
        self.loop = loop
        self.turn = Turn()
        self.application = application
        self.exit_code = 0
        self.stopping = False
        self.workers: dict[int, WorkerHandle] = {}
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._announced = False
        self._shutdown: asyncio.Task[None] | None = None
        node, epoch = node_name(), secrets.token_hex(8)
        self.table = ProcessTable(application, node=node, epoch=epoch, random=random.random)
        self.gateway = Gateway(
            loop, self.turn, application.gateway, self, lambda number, packed: m.Configure(number, node, epoch, packed)
        )
        self.hosts = {host.id: Host(loop, self.turn, host, open_files, self) for host in application.hosts.values()}
        self.orphans = Orphans(self._known_children, self._is_newborn_group)
        self._perform_one: dict[type, Callable[[Any], None]] = {
            StartWorker: self._start_worker,
            SendToWorker: self._send_to_worker,
            SendToGateway: lambda effect: self.gateway.send(effect.record),
            KillWorker: self._kill_worker,
            SetTimer: self._set_timer,
            ProcessEnded: _log_end,
            ServiceChanged: _log_service,
        }

    def run(self) -> int:
        """Start everything, serve, and stop everything. Returns the exit code."""
        self.loop.set_exception_handler(self._failed)
        for number in (signal.SIGINT, signal.SIGTERM):
            self.loop.add_signal_handler(number, self.stop)
        try:
            self.gateway.start()
            for host in self.hosts.values():
                host.start()
            self.perform(self.table.start(self.loop.time()))
            self.end_turn()
            self.loop.run_forever()
        finally:
            self._kill_everything()
            self.gateway.close_sockets()
        return self.exit_code

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback raised: the tables may be wrong. Stop at once rather than go on with them."""
        logger.critical("internal error: %s", context.get("message"), exc_info=context.get("exception"))
        self.exit_code = 70  # EX_SOFTWARE, sysexits.h
        loop.stop()

    # --- turns --------------------------------------------------------------------------------------------------------

    def perform(self, effects: list[Effect]) -> None:
        """Perform what the table wants, in order."""
        for effect in effects:
            self._perform_one[type(effect)](effect)

    def end_turn(self) -> None:
        """Write what this turn has queued, and wake who waits for something that is now so."""
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
        """The gateway wrote a record for the process table."""
        self.perform(self.table.from_gateway(record))

    def gateway_ready(self) -> None:
        """The gateway accepts connections."""
        self._announce_if_ready()

    def gateway_lost(self, why: str) -> None:
        """The gateway is dead, or of no use: without it there is nothing to supervise for."""
        if not self.stopping:
            logger.critical("%s", why)
            self.exit_code = 1
            self.loop.stop()

    def host_changed(self) -> None:
        """A host is ready, or gone: then what it had forked and not told of is gone too (S41a)."""
        self.sweep()
        self._announce_if_ready()

    def _announce_if_ready(self) -> None:
        """Log where we listen, once the gateway and every host are ready."""
        if not self._announced and self.gateway.ready and all(host.ready for host in self.hosts.values()):
            self._announced = True
            for server, place in self.gateway.places():
                logger.info("serving %s on %s", server, place)
            if not self.application.gateway.servers:
                logger.info("ready: no http.service is configured")

    # --- stopping -----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop in good order; called again, at once."""
        if self._shutdown is None:
            logger.info("stopping")
            self.stopping = True
            self._shutdown = self.loop.create_task(self._stop())
        else:
            logger.warning("stopping at once")
            self.loop.stop()

    async def _stop(self) -> None:
        """Close the clients, ask the actors to end, then let `run` kill what is left."""
        try:
            self.gateway.send(m.Shutdown())
            self.end_turn()
            close = max((server.timeouts.close for server in self.application.gateway.servers), default=0.0)
            await self.wait_for(lambda: self.gateway.shut_down, close + SHUTDOWN_MARGIN)
            self.perform(self.table.cancel_all(self.loop.time(), CANCEL_GRACE))
            self.end_turn()
            await self.wait_for(lambda: self.table.actors() == 0, max(CANCEL_GRACE, self.table.stop_time()))
        finally:
            self.loop.stop()

    def _kill_everything(self) -> None:
        """SIGKILL all that is ours, and reap it: nothing outlives the supervisor."""
        self.stopping = True
        if self._shutdown is not None:
            self._shutdown.cancel()
        self.perform(self.table.kill_all())
        for host in self.hosts.values():
            host.stop()
        self.gateway.kill()
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
            "some processes did not die within %.0f s: %s", KILL_TIMEOUT, sorted(pid for pid, _ in own_children())
        )

    def _no_child_known(self) -> bool:
        return not self._known_children()

    # --- workers ------------------------------------------------------------------------------------------------------

    def _start_worker(self, effect: StartWorker) -> None:
        control_here, control_there = channel_pair()
        data_gateway, data_worker = channel_pair()
        with control_there, data_gateway, data_worker:
            mailbox = self.application.hosts[effect.host].limits.mailbox
            handle = WorkerHandle(
                self.loop, self.turn, effect.worker, mailbox, control_here, self._worker_readable, self._worker_died
            )
            self.workers[effect.worker] = handle
            handle.attachment.send(effect.start)
            handle.attachment.send(m.OpenData(self.gateway.incarnation), data_worker.fileno())
            self.gateway.send(m.OpenWorker(effect.worker, effect.start.pid), data_gateway.fileno())
            self.hosts[effect.host].fork(effect.worker, control_there.fileno())

    def _send_to_worker(self, effect: SendToWorker) -> None:
        handle = self.workers.get(effect.worker)
        if handle is None:
            return
        handle.attachment.send(effect.record)
        if type(effect.record) in _BOUNDED and handle.channel.pending > handle.mailbox:
            self.perform(self.table.worker_overflowed(effect.worker))

    def _kill_worker(self, effect: KillWorker) -> None:
        handle = self.workers.get(effect.worker)
        if handle is not None:
            handle.kill()

    def _set_timer(self, effect: SetTimer) -> None:
        self.loop.call_at(effect.deadline, self._timer_fired, effect)

    def _timer_fired(self, timer: SetTimer) -> None:
        self.perform(self.table.timer_fired(timer.event, max(timer.deadline, self.loop.time())))
        self.end_turn()

    def _worker_readable(self, handle: WorkerHandle) -> None:
        """A worker has written, or its channel has ended."""
        self._take_from_worker(handle, handle.channel.receive())
        if handle.channel.violation is not None:
            handle.attachment.stop_reading()
            self.perform(self.table.worker_violated(handle.number, str(handle.channel.violation)))
        elif handle.channel.ended:
            handle.attachment.stop_reading()
            self.loop.call_later(EOF_GRACE, self._fence, handle.number)
        self.end_turn()

    def _take_from_worker(self, handle: WorkerHandle, records: list[tuple[Any, ...]]) -> None:
        """Tell the table what a worker wrote."""
        for record in records:
            self.perform(self.table.from_worker(handle.number, record, self.loop.time()))

    def _fence(self, number: int) -> None:
        self.perform(self.table.worker_lost(number))
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
        handle.born(child)
        self.perform(self.table.worker_born(number, self.loop.time()))

    def worker_failed(self, number: int, detail: str) -> None:
        """A worker will never be born."""
        handle = self.workers.pop(number, None)
        if handle is not None:
            handle.attachment.close()
            self.perform(self.table.worker_failed(number, detail, self.loop.time()))

    def _worker_died(self, handle: WorkerHandle) -> None:
        """A worker's pidfd is readable. The order of these steps is S2, S14 and S16."""
        child = handle.child
        if child is None or (status := child.status()) is None:
            return
        self.loop.remove_reader(child.pidfd)
        child.kill_group()
        self.sweep()
        self._take_from_worker(handle, handle.channel.drain())
        self.perform(self.table.worker_exited(handle.number, status, self.loop.time()))
        del self.workers[handle.number]
        handle.attachment.close()
        self.end_turn()
        child.reap()

    # --- orphans ------------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Kill what dead workers have left behind, and reap it when it is dead."""
        for orphan in self.orphans.sweep():
            logger.info("killed os process %d, left behind by a worker that ended", orphan.os_pid)
            self.loop.add_reader(orphan.pidfd, self._orphan_died, orphan)

    def _orphan_died(self, orphan: Child) -> None:
        if orphan.status() is not None:
            self.loop.remove_reader(orphan.pidfd)
            self.orphans.reap(orphan)
            self.sweep()
            self.end_turn()

    def _known_children(self) -> set[int]:
        """The os_pids of all children that we have started."""
        children = [self.gateway.child]
        children += [host.child for host in self.hosts.values()]
        children += [handle.child for handle in self.workers.values()]
        return {child.os_pid for child in children if child is not None}

    def _is_newborn_group(self, group: int) -> bool:
        return any(host.child is not None and host.child.os_pid == group for host in self.hosts.values())


def _log_end(effect: ProcessEnded) -> None:
    reason = effect.reason
    if reason.clean or reason.kind.startswith("ws_closed"):
        logger.debug("%s %s ended: %s", effect.entry, effect.pid, reason)
    elif reason.kind == "exception":
        logger.warning("%s %s ended: %s\n%s", effect.entry, effect.pid, reason, (reason.error or "").rstrip())
    else:
        logger.warning("%s %s ended: %s", effect.entry, effect.pid, reason)


def _log_service(effect: ServiceChanged) -> None:
    level = {State.FAILED: logging.ERROR, State.BACKING_OFF: logging.WARNING}.get(effect.state, logging.INFO)
    logger.log(
        level, "service %s: %s%s", effect.service, effect.state.value, f": {effect.detail}" * bool(effect.detail)
    )
