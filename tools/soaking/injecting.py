"""Puts the faults of a program in, and looks at what a client or an HTTP handler has to show for it.

Owns what goes on in the background, what is stopped and what hangs. Which process is in which slot is the interpreter's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Coroutine
from typing import Any, Final, Protocol
from urllib.parse import quote

from wsrelay.kernel.wire import journal_records as j
from wsrelay.tools.faults import kinds, perform
from wsrelay.tools.faults.failpoints import FAILPOINTS
from wsrelay.tools.faults.kinds import Fault

from . import program as p
from .clients import PATIENCE, Client
from .giving_up import GivingUp
from .session import Fault as Injected
from .session import Outcome, Session
from .waiting import LOOK, Stuck, until
from .watching import MISSED

AGAIN_AFTER: Final = 200
"""Looks after which an order to terminate counts as lost."""
POINT_TIMEOUT: Final = 1.0
"""Seconds that a failpoint is armed."""
HOSTS: Final = 2
"""Hosts of the application."""
HELD: Final = 0.02
"""Seconds that a process is held at a failpoint."""
_DIES: Final = "dies at "


class Slots(Protocol):
    """What is needed of the interpreter."""

    clients: list[Client]

    async def need(self, slot: int) -> str:
        """The PID in a slot, which lives."""

    async def spawn(self, slot: int, how: str) -> None:
        """Spawn a process into a slot."""

    async def order(self, pid: str, what: str, *arguments: Any) -> None:
        """Have an actor do something."""

    async def terminate(self, pid: str) -> None:
        """Have a process terminated."""


class Injector:
    """The faults of one program."""

    def __init__(self, session: Session, outcome: Outcome, slots: Slots) -> None:
        self.session = session
        self.outcome = outcome
        self.dead = False
        """Whether the supervisor is."""
        self._slots = slots
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped: set[str] = set()
        self._hung: set[str] = set()
        self._suspicions: list[tuple[str, int]] = []
        self._ending = asyncio.Event()
        self._giving_up = GivingUp(session, outcome)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in the background."""
        self._tasks.add(asyncio.create_task(work))

    async def inject(self, operation: p.Operation) -> None:
        """Put a fault in, or begin to."""
        match operation:
            case p.Inject(victim, fault):
                await self._in_process(victim, fault)
            case p.Resume(slot):
                self._resume(await self._slots.need(slot))
            case p.InHandler(fault):
                self.start(self._in_handler(fault))
            case p.Misbehave(fault):
                self.start(self._misbehave(fault))
            case p.Break(fault):
                await self._break(fault)
            case p.GiveUp():
                await self._giving_up.give_up()
            case p.DieAt(point) if self._spares_gateway(point):
                pass
            case p.Between(point, victim):
                self.start(self._between(point, await self._slots.need(victim)))
            case p.DieAt(point):
                self.start(self._die_at(point))

    def _spares_gateway(self, point: str) -> bool:
        """Whether this would kill a gateway so soon after another one that the runtime would wait before it starts the next."""
        return FAILPOINTS[point].role == "gateway" and time.monotonic() < self.session.picture.stable_from

    async def _in_process(self, slot: int, fault: Fault) -> None:
        if isinstance(fault, kinds.MemoryHog):
            if slot == p.KEEPER:
                return
            await self._slots.spawn(slot, "limited")
        pid = await self._slots.need(slot)
        if isinstance(fault, kinds.Stop) or (isinstance(fault, kinds.Signal) and fault.name == "SIGKILL"):
            await self._from_outside(pid, fault)
            return
        if fault.outcome.hangs:
            self._hung.add(pid)
        await self._slots.order(pid, "fault", repr(fault))

    async def _from_outside(self, pid: str, fault: Fault) -> None:
        os_pid = await self._os_pid(pid)
        if not os_pid:
            return
        number = signal.SIGSTOP if isinstance(fault, kinds.Stop) else signal.SIGKILL
        self.session.book.fault(repr(fault), os_pid)
        if not self.session.signal(os_pid, number):
            self.session.book.fault(f"{MISSED}{fault!r}", os_pid)
            return
        if isinstance(fault, kinds.Stop):
            self._stopped.add(pid)
            if fault.seconds is not None:
                self.start(self._resume_later(pid, fault.seconds))

    async def _os_pid(self, pid: str) -> int:
        """The os_pid of a process, 0 if it is dead. Waits until it is born. Raises Stuck."""

        def known() -> bool:
            self.session.look()
            picture = self.session.picture
            return pid in picture.os_pid_of or pid not in picture.live

        await until(known, lambda: f"{pid} to be born")
        return self.session.picture.os_pid_of.get(pid, 0)

    def _resume(self, pid: str) -> None:
        if pid in self._stopped:
            self._stopped.discard(pid)
            self.session.signal(self.session.picture.os_pid_of.get(pid, 0), signal.SIGCONT)

    async def _resume_later(self, pid: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._resume(pid)

    async def _in_handler(self, fault: Fault) -> None:
        begun, losses = time.monotonic(), self._losses()
        status = await self._get(f"/faulty?fault={quote(repr(fault))}")
        self.outcome.faults.append(Injected(f"{type(fault).__name__} in a handler", time.monotonic() - begun))
        if status != fault.outcome.status:
            self._suspect(f"{fault!r} in an HTTP handler answers {fault.outcome.status}, not {status}", losses)

    def _suspect(self, complaint: str, losses: int) -> None:
        """Something is wrong, unless it turns out that more than this was lost meanwhile."""
        self._suspicions.append((complaint, losses))

    def _losses(self) -> int:
        """How many gateways were lost; how many hosts, with what they were to fork (S41a); and how many processes died at a
        failpoint, whoever that was."""
        self.session.look()
        records = [entry.record for entry in self.session.window]
        died = sum(
            isinstance(record, j.FaultInjected) and record.fault.startswith((_DIES, "KillHost")) for record in records
        )
        return died + sum(isinstance(record, j.GatewayLost) for record in records)

    async def _get(self, path: str) -> int:
        """The status of an answer, 0 if there is none."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.session.runtime.port())
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                line = await asyncio.wait_for(reader.readline(), PATIENCE)
                await reader.read()
            finally:
                writer.close()
        except OSError:
            return 0
        return int(line.split()[1]) if line else 0

    async def _misbehave(self, fault: Fault) -> None:
        begun, losses = time.monotonic(), self._losses()
        try:
            code = await asyncio.to_thread(perform, self.session.runtime, fault, path="/plain")
        except (AssertionError, OSError) as problem:
            code = None
            if "HTTP/1.1 503" in str(problem) and self._losses():
                return  # its target died before it was admitted, with a host that this program killed (S41a, S44)
            self._suspect(f"{fault!r}: {problem!r}", losses)
        self.outcome.faults.append(Injected(type(fault).__name__, time.monotonic() - begun))
        expected = fault.outcome.codes or (1000,)
        if code is not None and code not in expected:
            self._suspect(f"{fault!r}: its client sees {expected}, not {code}", losses)

    async def _break(self, fault: Fault) -> None:
        session = self.session
        session.look()
        begun = time.monotonic()
        if isinstance(fault, kinds.KillGateway):
            await until(lambda: bool(session.look()) or session.picture.serving, lambda: "a gateway to serve")
            gateway = session.picture.gateway
            if time.monotonic() < session.picture.stable_from:
                return
            session.book.fault(repr(fault), gateway)
            if not session.signal(gateway):
                return
            await until(lambda: self._serves_after(gateway), lambda: "a gateway to serve again")
        elif isinstance(fault, kinds.KillHost):
            hosts = session.picture.hosts()
            if (
                len(hosts) != HOSTS
            ):  # one is being started, or the journal has just told of a child and not yet what it is
                return
            session.book.fault(repr(fault), hosts[0])
            session.signal(hosts[0])
            await until(lambda: self._host_after(hosts), lambda: "a host to be started again")
        else:
            session.book.fault(repr(fault), session.picture.supervisor)
            self.dead = True
            await asyncio.to_thread(perform, session.runtime, fault)
            for client in self._slots.clients:
                await client.ended()
            session.runtime.check_nothing_left()
        self.outcome.faults.append(Injected(type(fault).__name__, time.monotonic() - begun))

    def _serves_after(self, gateway: int) -> bool:
        self.session.look()
        return self.session.picture.serving and self.session.picture.gateway != gateway

    def _host_after(self, hosts: list[int]) -> bool:
        self.session.look()
        return hosts[0] not in self.session.picture.children and len(self.session.picture.hosts()) >= HOSTS

    async def _between(self, point: str, pid: str) -> None:
        """Kill a process while another one stands at a failpoint."""
        controller = self.session.controller
        nth = controller.arm_next(point)
        hit = None
        begun = time.monotonic()
        while hit is None and not self._ending.is_set() and time.monotonic() - begun < POINT_TIMEOUT:
            await asyncio.sleep(0.005)
            hit = next((hit for hit in controller.hits if (hit.name, hit.nth) == (point, nth)), None)
        hit = hit or controller.withdraw(point, nth)
        if hit is None:
            return
        os_pid = self.session.picture.os_pid_of.get(pid, 0)
        self.session.book.fault(f"Signal at {point}", os_pid)
        killed = self.session.signal(os_pid)
        await asyncio.sleep(HELD)
        with contextlib.suppress(KeyError):
            controller.release(hit)
        if killed:
            self.outcome.faults.append(Injected(f"kill at {point}"))

    async def _die_at(self, point: str) -> None:
        """Have a process die at a failpoint."""
        controller = self.session.controller
        nth = controller.arm_next(point, "SIGKILL")
        begun = time.monotonic()
        hit = None
        while hit is None and not self._ending.is_set() and time.monotonic() - begun < POINT_TIMEOUT:
            await asyncio.sleep(0.005)
            hit = next((hit for hit in controller.hits if (hit.name, hit.nth) == (point, nth)), None)
        hit = hit or controller.withdraw(point, nth)
        if hit is not None:
            self.session.book.fault(f"{_DIES}{point}", hit.os_pid)
            self.outcome.faults.append(Injected(f"{_DIES}{point}"))

    async def finish(self) -> None:
        """Everything that was started in the background has ended, what was stopped runs, and what hangs is killed."""
        if self.dead:
            self._ending.set()
        else:
            for pid in list(self._stopped):
                self._resume(pid)
            for pid in self._hung:
                await self._terminate(pid)
            self._ending.set()
        tasks, self._tasks = self._tasks, set()
        done, pending = await asyncio.wait(tasks, timeout=2 * PATIENCE) if tasks else (set(), set())
        self._tasks = pending
        for task in done:
            if (error := task.exception()) is not None and not self.dead:
                raise error
        if pending:
            raise Stuck(f"waited for {pending}")
        if not self.dead:
            await self._giving_up.mend()

    async def _terminate(self, pid: str) -> None:
        """End a process that hangs (S30). The order may be lost with a gateway that is killed: then it is given again."""
        begun = time.monotonic()
        while True:
            await self._slots.terminate(pid)
            for _ in range(AGAIN_AFTER):
                self.session.look()
                if pid not in self.session.picture.live:
                    return
                await asyncio.sleep(LOOK)
            if time.monotonic() - begun > PATIENCE:
                raise Stuck(f"waited {PATIENCE:g} s for the end of {pid}, which was terminated")

    def confirmed(self) -> list[str]:
        """The suspicions that nothing explains, when all is quiet."""
        losses = self._losses()
        return [complaint for complaint, before in self._suspicions if before == losses]

    async def abandon(self) -> None:
        """Do nothing more in the background."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
