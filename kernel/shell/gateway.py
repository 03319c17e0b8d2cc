"""The supervisor's handle on the gateway: its listening sockets, its control channel, its OS process.

Executes it, watches that it lives and answers, and executes it again when it has died (S41). The listening sockets stay open
here all the while: whoever connects meanwhile waits in their queue, and nobody is refused.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from ..core.endings import reason_of_death
from ..core.gateway_restarts import GatewayRestarts
from ..wire import messages as m
from ..wire.channel import Channel, channel_pair
from ..wire.configuration import GatewayConfiguration, Server, pack
from ..wire.quantities import processors_text
from .attachment import Attachment, Turn
from .children import Child, start_python
from .listeners import describe, discard
from .machine import warn_if_elsewhere
from .watchdog import Watchdog, limit_from_environment

logger = logging.getLogger("wsrelay")

HANG_LIMIT = 10.0
"""Seconds without an answer after which the gateway is taken to hang, unless the environment says otherwise; 0 is for ever."""
HANG_LIMIT_VARIABLE = "WSRELAY_GATEWAY_HANG_LIMIT"
START_LIMIT = 30.0
"""The same while it starts: importing takes a while on a busy machine."""
_ABOUT_ITSELF = frozenset({m.Pong, m.GatewayReady, m.GatewayFailed, m.Reconfigured, m.ShutdownComplete})
"""Records that are not the process table's business."""


class GatewayListener(Protocol):
    """Who is told what the gateway does."""

    def gateway_started(self) -> None:
        """It has been executed: every live worker is to have a data channel to it. What is sent now it reads before it serves."""

    def gateway_ready(self) -> None:
        """It accepts connections."""

    def gateway_lost(self) -> None:
        """It is dead, and all that it wrote was handed on. It is executed again, unless `gateway_failed` is called next."""

    def gateway_failed(self, why: str) -> None:
        """It cannot serve, and never could."""

    def from_gateway(self, record: tuple[Any, ...]) -> None:
        """It wrote a record for the process table."""

    def end_turn(self) -> None:
        """A callback of the loop is done."""


class Change:
    """A configuration that the gateway is asked to serve instead (`Gateway.reconfigure`)."""

    def __init__(
        self,
        number: int,
        configuration: GatewayConfiguration,
        sockets: Sequence[tuple[str, socket.socket]],
        commit: Callable[[], None],
        answer: asyncio.Future[str | None],
    ) -> None:
        self.number = number
        self.configuration = configuration
        self.sockets = sockets
        self.commit = commit
        self.answer = answer


class Gateway:
    """The gateway process, through all its incarnations."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        turn: Turn,
        configuration: GatewayConfiguration,
        listener: GatewayListener,
        configure: Callable[[bytes], m.Configure],
        listen: Callable[[Server], list[socket.socket]],
    ) -> None:
        """Opens all listening sockets, with `listen`: raises ListenError. `configure(packed)` makes the record that has it serve."""
        self.ready = False
        self.child: Child | None = None
        self.starts = 0
        self._loop = loop
        self._turn = turn
        self._listener = listener
        self._configuration = configuration
        self._configure = configure
        self._attachment: Attachment | None = None
        self._restarts = GatewayRestarts()
        self._watchdog = Watchdog(loop, self._ping, self._hangs)
        self._hang_limit = limit_from_environment(HANG_LIMIT_VARIABLE, HANG_LIMIT)
        self._ready_at: float | None = None
        self._lost_at: float | None = None
        self._ever_ready = False
        self._refused = False
        self._why = ""
        self._shut_down = False
        self._stopping = False
        self._sockets: list[tuple[str, socket.socket, bool]] = []
        self._change: Change | None = None
        self._changes = 0
        try:
            for server in configuration.servers:
                for listening in listen(server):
                    self._sockets.append((server.id, listening, server.tls is not None))
        except BaseException:
            self.close_sockets()
            raise

    def places(self) -> Iterator[tuple[str, str]]:
        """Yield (http.service id, where it listens) for people."""
        for server, listening, tls in self._sockets:
            yield server, describe(listening, tls=tls)

    # --- another configuration ----------------------------------------------------------------------------------------

    def sockets(self, server: str) -> list[socket.socket]:
        """The listening sockets of a server."""
        return [listening for id, listening, _ in self._sockets if id == server]

    def reconfigure(
        self,
        configuration: GatewayConfiguration,
        sockets: Sequence[tuple[str, socket.socket]],
        commit: Callable[[], None],
    ) -> asyncio.Future[str | None]:
        """Have it serve something else. `sockets` are those of servers that are new, or listen otherwise than before; they become
        this object's if it does. `commit` is called between what it wrote before the change and what it writes after it. The future
        is an empty string then; or why it refuses; or None if it died before it had answered. One at a time."""
        self._changes += 1
        self._change = Change(self._changes, configuration, sockets, commit, self._loop.create_future())
        answer = self._change.answer
        try:
            for id, listening in sockets:
                self.send(m.Listener(id), listening.fileno())
        except OSError as problem:  # no descriptor to spare for those that wait to be sent
            self._change = None
            self.send(m.Reconfigure(self._changes, b""))
            answer.set_result(f"a listening socket cannot be passed to the gateway: {problem}")
        else:
            self.send(m.Reconfigure(self._changes, pack(configuration)))
        return answer

    def forget_change(self) -> None:
        """Nobody waits for the answer any more."""
        self._change = None

    def restart(self, why: str) -> None:
        """It is of no use as it is: SIGKILL; it will be restarted."""
        self._kill(why)

    def _reconfigured(self, number: int, error: str) -> None:
        change = self._change
        if change is None or change.number != number:
            return  # nobody waits for it any more: it is overwritten by the next
        self._change = None
        if not error:
            self._adopt(change)
            change.commit()
            self._look_where_it_runs()
        if not change.answer.done():
            change.answer.set_result(error)

    def _adopt(self, change: Change) -> None:
        self._configuration = change.configuration
        tls = {server.id: server.tls is not None for server in change.configuration.servers}
        replaced = {id for id, _ in change.sockets}
        passed = [listening for _, listening in change.sockets]
        kept = []
        for id, listening, _ in self._sockets:
            if id in tls and id not in replaced:
                kept.append((id, listening, tls[id]))
            elif listening not in passed:
                discard(listening)
        self._sockets = kept + [(id, listening, tls[id]) for id, listening in change.sockets]

    # --- its life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Execute it, hand it the sockets and, through the listener, the data channels; then it may serve."""
        if self._stopping:
            return
        try:
            ours, child = self._execute()
        except OSError as problem:  # too many processes or files, or no memory: that may pass
            logger.error("the gateway cannot be started: %s", problem)
            self._restart("")
            return
        self.child = child
        self.starts += 1
        self._why, self._refused, self._ready_at = "", False, None
        self._loop.add_reader(child.pidfd, self._died)
        channel = Channel(ours, m.GATEWAY_TO_SUPERVISOR)
        self._attachment = Attachment(self._loop, self._turn, channel, self._readable, on_broken=self._broken)
        try:
            for server, listening, _ in self._sockets:
                self.send(m.Listener(server), listening.fileno())
        except OSError as problem:  # no descriptor to spare: it is killed before it serves, and tried again
            self._kill(f"the gateway cannot be started: {problem}")
            return
        self._listener.gateway_started()
        self.send(self._configure(pack(self._configuration)))
        self._watchdog.watch(max(START_LIMIT, self._hang_limit) if self._hang_limit else 0.0)
        self._listener.end_turn()

    def _execute(self) -> tuple[socket.socket, Child]:
        affinity = self._configuration.cpu_affinity
        more = [] if affinity is None else [processors_text(affinity)]
        ours, theirs = channel_pair()
        with theirs:
            try:
                return ours, Child(start_python("wsrelay.gateway.shell.main", theirs.fileno(), None, *more))
            except BaseException:
                ours.close()
                raise

    def _restart(self, why: str) -> None:
        """Execute it again, at once or a little later."""
        served = 0.0 if self._ready_at is None else self._loop.time() - self._ready_at
        delay = self._restarts.next_delay(served)
        if why:
            logger.error("%s: restarting it%s", why, f" in {delay:g} s" if delay else "")
        self._loop.call_later(delay, self.start)

    def _died(self) -> None:
        child, attachment = self.child, self._attachment
        if child is None or attachment is None or (status := child.status()) is None:
            return
        self._loop.remove_reader(child.pidfd)
        self._watchdog.stop()
        child.kill_group()
        for record in attachment.channel.drain():
            self._take(record)
        attachment.close()
        self.child, self._attachment, self.ready, self._lost_at = None, None, False, self._loop.time()
        if (change := self._change) is not None:
            self._change = None
            if not change.answer.done():
                change.answer.set_result(None)
        child.reap()
        self._listener.gateway_lost()
        why = self._why or f"the gateway ended: {reason_of_death(None, None, status)}"
        if not self._ever_ready and (self._refused or status.signal is None):
            self._listener.gateway_failed(why)
        elif not self._stopping:
            self._restart(why)
        self._listener.end_turn()

    @property
    def shut_down(self) -> bool:
        """It has closed its connections, or there is none."""
        return self._shut_down or self.child is None

    def shut_down_clients(self) -> None:
        """Have it close every connection. It is not restarted from here on."""
        self._stopping = True
        self._watchdog.stop()
        self.send(m.Shutdown())

    def stop(self) -> None:
        """SIGKILL, for good."""
        self._stopping = True
        self._watchdog.stop()
        self._kill("")

    def _kill(self, why: str) -> None:
        self._why = self._why or why
        if self.child is not None:
            self.child.kill()

    # --- its channel --------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether there is a gateway to send to."""
        return self._attachment is not None

    def send(self, record: tuple[Any, ...], descriptor: int | None = None) -> None:
        """Queue a record for the end of the turn. Without a gateway there is nobody to tell."""
        if self._attachment is not None:
            self._attachment.send(record, descriptor)

    def _readable(self) -> None:
        attachment = self._attachment
        if attachment is None:
            return
        channel = attachment.channel
        for record in channel.receive():
            self._take(record)
        if channel.violation is not None or channel.ended:
            attachment.stop_reading()
            self._kill("" if channel.violation is None else f"the gateway wrote garbage ({channel.violation})")
        self._listener.end_turn()

    def _broken(self) -> None:
        """It reads no more: fence it (S43)."""
        self._kill("")

    def _take(self, record: tuple[Any, ...]) -> None:
        if type(record) not in _ABOUT_ITSELF:
            self._listener.from_gateway(record)
        elif isinstance(record, m.Pong):
            self._watchdog.answered(record.number)
        elif isinstance(record, m.GatewayReady):
            self._serves()
        elif isinstance(record, m.GatewayFailed):
            self._refused = True
            self._kill(f"the gateway cannot serve: {record.message}")
        elif isinstance(record, m.Reconfigured):
            self._reconfigured(record.number, record.error)
        elif isinstance(record, m.ShutdownComplete):
            self._shut_down = True

    def _serves(self) -> None:
        self._ready_at = self._loop.time()
        if self._lost_at is not None:
            logger.info("the gateway serves again after %.0f ms", (self._ready_at - self._lost_at) * 1000)
        self.ready = self._ever_ready = True
        self._look_where_it_runs()
        if not self._stopping:
            self._watchdog.watch(self._hang_limit)
        self._listener.gateway_ready()

    def _look_where_it_runs(self) -> None:
        if self.child is not None:
            warn_if_elsewhere("the gateway", self.child.os_pid, self._configuration.cpu_affinity, {})

    def _ping(self, number: int) -> None:
        self.send(m.Ping(number))
        self._listener.end_turn()

    def _hangs(self, limit: float) -> None:
        self._kill(f"the gateway has not answered for {limit:g} s")

    # --- its sockets --------------------------------------------------------------------------------------------------

    def close_sockets(self, kept: Callable[[str], bool] = lambda server: False, *, last: bool = True) -> None:
        """Stop listening, and remove the socket files, but not of those servers whose sockets somebody else keeps: these are
        only closed, at the `last`."""
        for server, listening, _ in self._sockets:
            if not kept(server):
                discard(listening)
            elif last:
                listening.close()
        self._sockets = [each for each in self._sockets if each[1].fileno() >= 0]
