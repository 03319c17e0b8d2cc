"""Performs a random program on a session's runtime, waits until nothing goes on, and has the journals checked.

Faults fly while the program goes on: nothing waits for them but the end. Checked is twice: when all is quiet, while what has
survived still lives, and when everything has been ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from wsrelay.kernel.wire import journal_records as j
from wsrelay.tools.faults import kinds, perform
from wsrelay.tools.faults.checker import check, story, tell
from wsrelay.tools.faults.failpoints import FAILPOINTS
from wsrelay.tools.faults.kinds import Fault

from . import program as p
from .clients import PATIENCE, Client, Line
from .session import Fault as Injected
from .session import Outcome, Session
from .watching import Bystander, endings

QUIET_LOOK: Final = 0.01
"""Seconds between two looks at whether something goes on."""
QUIET_LOOKS: Final = 3
SECOND_LOOK: Final = 1.0
"""Seconds after which a violation is looked for again: what was only under way has come by then."""
POINT_TIMEOUT: Final = 1.0
"""Seconds that a failpoint is armed."""
HELD: Final = 0.02
"""Seconds that a process is held at a failpoint."""
STORY: Final = 20_000
"""Characters of the story of a violation."""


_DIES: Final = "dies at "


class Stuck(Exception):
    """Something that should have happened did not; the message says what."""


def perform_program(session: Session, program: p.Program) -> Outcome:
    """Perform a program. A session whose `ended` is set afterwards cannot be used again."""
    return asyncio.run(Interpreter(session, program).run())


class Interpreter:
    """One program."""

    def __init__(self, session: Session, program: p.Program) -> None:
        self.session = session
        self.outcome = Outcome(program)
        session.programs += 1
        self._name = f"p{session.programs}"
        self._slots: dict[int, str] = {}
        self._clients: dict[int, Client] = {}
        self._all_clients: list[Client] = []
        self._holders: dict[int, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped: set[str] = set()
        self._hung: set[str] = set()
        self._suspicions: list[tuple[str, int]] = []
        self._ending = asyncio.Event()
        self._dead = False
        """Whether the supervisor is."""

    async def run(self) -> Outcome:
        """Perform and check. What goes wrong is in the outcome."""
        self._line = Line(self.session.runtime.ws_url("/control"), self._born)
        bystander = Bystander(self.session.book, self.session.runtime.ws_url("/plain"))
        try:
            await self._line.ask("hello")
            for operation in self.outcome.program:
                await self._perform(operation)
            await self._finish()
            await bystander.close()
            if not self._dead:
                await self._settle()
                lost = self._losses()
                self.outcome.complaints += [what for what, before in self._suspicions if before == lost]
                self._check("while what has survived lives")
                await self._tear_down()
                await self._line.end()
                await self._settle()
                self.session.compare()
                self.outcome.samples = self.session.measure()
            self._check("when all has ended")
        except (Stuck, AssertionError, TimeoutError, OSError) as problem:
            self.outcome.complaints.append(f"{type(problem).__name__}: {problem}")
        finally:
            await bystander.close()
            await self._line.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self.session.look()
        self.outcome.faults += endings(self.session.window, self.outcome.complaints)
        if self.outcome.failed:
            self._explain()
        if self.outcome.failed or self._dead:
            self.session.ended = True
        else:
            self.session.settle_accounts()
        return self.outcome

    # --- operations ---------------------------------------------------------------------------------------------------

    async def _perform(self, operation: p.Operation) -> None:
        match operation:
            case p.Spawn(slot, how):
                await self._spawn(slot, how)
            case p.Child(by, slot, relation):
                await self._order(await self._need(by), "child", slot, relation)
            case p.Ask(by, "join", p.KEEPER):
                pass  # nobody would take it out of the group again
            case p.Ask(by, what, other):
                await self._order(await self._need(by), what, await self._need(other))
            case p.Do(by, task):
                what, _, rest = task.partition(" ")
                await self._order(await self._need(by), *((what, rest) if what == "exec" else (task,)))
            case p.Connect(stream, to):
                await self._connect(stream, to)
            case p.Say(stream, count):
                await (await self._client(stream)).say(count)
            case p.Close(stream):
                client = self._clients.pop(stream, None)
                if client is not None:
                    self._start(client.close())
            case p.Transfer(stream, to, returns):
                client, target = await self._client(stream), await self._need(to)
                holder = self._holders.get(stream, stream)
                returns = returns and holder != p.KEEPER
                await self._order(await self._need(holder), "transfer", client.stream, target, returns)
                self._holders[stream] = to
            case p.Upgrade(victim):
                await self._order(await self._need(victim), "upgrade")
            case p.Serve(by, service, stream):
                client = await self._client(stream)
                await self._order(await self._need(by), "serve", service, client.stream)
            case _:
                await self._inject(operation)

    async def _inject(self, operation: p.Operation) -> None:
        match operation:
            case p.Inject(victim, fault):
                await self._in_process(victim, fault)
            case p.Resume(slot):
                self._resume(self._slots.get(slot, ""))
            case p.InHandler(fault):
                self._start(self._in_handler(fault))
            case p.Misbehave(fault):
                self._start(self._misbehave(fault))
            case p.Break(fault):
                await self._break(fault)
            case p.DieAt(point) if self._spares_gateway(point):
                pass
            case p.Between(point, victim):
                self._start(self._between(point, await self._need(victim)))
            case p.DieAt(point):
                self._start(self._die_at(point))

    def _spares_gateway(self, point: str) -> bool:
        """Whether this would kill a gateway so soon after another one that the runtime would wait before it starts the next."""
        return FAILPOINTS[point].role == "gateway" and time.monotonic() < self.session.picture.stable_from

    async def _spawn(self, slot: int, how: str) -> None:
        pid = await self._line.ask("spawn", slot, how)
        self.session.look()
        if isinstance(pid, str) and pid.startswith("{"):
            self._slots[slot] = pid

    def _born(self, slot: int, pid: str) -> None:
        self._slots[slot] = pid

    async def _need(self, slot: int) -> str:
        """The PID in a slot; one is spawned if there was none, or it is dead."""
        self.session.look()
        if slot == p.KEEPER:
            return next(iter(self.session.picture.service_pids.values()))
        if self._slots.get(slot) not in self.session.picture.live:
            await self._spawn(slot, "plain")
        return self._slots.get(slot, self._line.conductor)

    async def _order(self, pid: str, what: str, *arguments: Any) -> None:
        await self._line.ask("order", pid, what, *arguments)

    async def _connect(self, stream: int, to: int) -> Client:
        target = "keeper" if to == p.KEEPER else await self._need(to)
        client = Client(self.session.book, f"{self._name}.{stream}.{len(self._all_clients)}")
        if await client.connect(self.session.runtime.ws_url("/join"), target):
            if (before := self._clients.get(stream)) is not None:
                self._start(before.close())
            self._all_clients.append(client)
            self._clients[stream] = client
            self._holders[stream] = to
        return self._clients.get(stream, client)

    async def _client(self, stream: int) -> Client:
        """The client of a stream; it connects if it was not."""
        client = self._clients.get(stream)
        return client if client is not None and client.open else await self._connect(stream, stream)

    # --- faults -------------------------------------------------------------------------------------------------------

    async def _in_process(self, slot: int, fault: Fault) -> None:
        if isinstance(fault, kinds.MemoryHog):
            if slot == p.KEEPER:
                return
            await self._spawn(slot, "limited")
        pid = await self._need(slot)
        if isinstance(fault, kinds.Stop) or (isinstance(fault, kinds.Signal) and fault.name == "SIGKILL"):
            await self._from_outside(pid, fault)
            return
        if fault.outcome.hangs:
            self._hung.add(pid)
        await self._order(pid, "fault", repr(fault))

    async def _from_outside(self, pid: str, fault: Fault) -> None:
        os_pid = await self._os_pid(pid)
        number = signal.SIGSTOP if isinstance(fault, kinds.Stop) else signal.SIGKILL
        self.session.book.fault(repr(fault), os_pid)
        if not self.session.signal(os_pid, number):
            return
        if isinstance(fault, kinds.Stop):
            self._stopped.add(pid)
            if fault.seconds is not None:
                self._start(self._resume_later(pid, fault.seconds))

    async def _os_pid(self, pid: str) -> int:
        """The os_pid of a process, 0 if it is dead. Waits until it is born. Raises Stuck."""

        def known() -> bool:
            self.session.look()
            picture = self.session.picture
            return pid in picture.os_pid_of or pid not in picture.live

        await self._until(known, lambda: f"{pid} to be born")
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
        status = await self._get(f"/faulty?fault={_quoted(repr(fault))}")
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
            await self._until(lambda: bool(session.look()) or session.picture.serving, lambda: "a gateway to serve")
            gateway = session.picture.gateway
            if time.monotonic() < session.picture.stable_from:
                return
            session.book.fault(repr(fault), gateway)
            if not session.signal(gateway):
                return
            await self._until(lambda: self._serves_after(gateway), lambda: "a gateway to serve again")
        elif isinstance(fault, kinds.KillHost):
            hosts = session.picture.hosts()
            if not hosts:
                return
            session.book.fault(repr(fault), hosts[0])
            session.signal(hosts[0])
            await self._until(lambda: self._host_after(hosts), lambda: "a host to be started again")
        else:
            session.book.fault(repr(fault), session.picture.supervisor)
            self._dead = True
            await asyncio.to_thread(perform, session.runtime, fault)
            for client in self._all_clients:
                await client.ended()
            session.runtime.check_nothing_left()
        self.outcome.faults.append(Injected(type(fault).__name__, time.monotonic() - begun))

    def _serves_after(self, gateway: int) -> bool:
        self.session.look()
        return self.session.picture.serving and self.session.picture.gateway != gateway

    def _host_after(self, hosts: list[int]) -> bool:
        self.session.look()
        return hosts[0] not in self.session.picture.children and len(self.session.picture.hosts()) >= len(hosts)

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

    # --- the end ------------------------------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)

    async def _until(
        self, predicate: Callable[[], bool], message: Callable[[], str], timeout: float = PATIENCE
    ) -> None:
        """Wait for a condition. Raises Stuck."""
        deadline = time.monotonic() + timeout
        while not predicate():
            if time.monotonic() > deadline:
                raise Stuck(f"waited {timeout:g} s for {message()}")
            await asyncio.sleep(QUIET_LOOK)

    async def _finish(self) -> None:
        """Everything that was started in the background has ended, what was stopped runs, and what hangs is killed."""
        if self._dead:
            self._ending.set()
        else:
            for pid in list(self._stopped):
                self._resume(pid)
            for pid in self._hung:
                await self._line.ask("terminate", pid)
            self._ending.set()
        tasks, self._tasks = self._tasks, set()
        done, pending = await asyncio.wait(tasks, timeout=2 * PATIENCE) if tasks else (set(), set())
        self._tasks = pending
        for task in done:
            if (error := task.exception()) is not None and not self._dead:
                raise error
        if pending:
            raise Stuck(f"waited for {pending}")

    async def _settle(self) -> None:
        """Wait until nothing goes on. Raises Stuck."""
        quiet = 0
        why = ""

        def is_quiet() -> bool:
            nonlocal quiet, why
            new = self.session.look()
            why = self.session.picture.under_way(set()) or ("records are written" if new else "")
            quiet = 0 if why else quiet + 1
            return quiet >= QUIET_LOOKS

        await self._until(is_quiet, lambda: f"everything to be quiet: {why}")

    def _check(self, when: str) -> None:
        """Ask the checker; what it finds must still be so a while later."""
        self.session.look()
        if check(self.session.window):
            time.sleep(SECOND_LOOK)
            self.session.look()
            self.outcome.violations += [
                found for found in check(self.session.window) if found not in self.outcome.violations
            ]
            if self.outcome.violations:
                raise Stuck(f"the invariants are violated {when}")

    async def _tear_down(self) -> None:
        """End all processes and clients: some times those first, some times these."""
        if self.session.programs % 2:
            await asyncio.gather(*(client.close() for client in self._all_clients))
        begun = time.monotonic()
        asked: set[str] = set()
        while actors := [pid for pid in self._actors() if pid != self._line.conductor and "echo" not in pid]:
            for index, pid in enumerate(pid for pid in actors if pid not in asked):
                asked.add(pid)
                await self._line.ask("cancel" if index % 3 == 0 else "terminate", pid)
            if time.monotonic() - begun > PATIENCE:
                raise Stuck(f"waited {PATIENCE:g} s for the end of {actors}")
            await asyncio.sleep(QUIET_LOOK)
        await asyncio.gather(*(client.close() for client in self._all_clients))

    def _actors(self) -> list[str]:
        self.session.look()
        return self.session.picture.actors()

    def _explain(self) -> None:
        """Tell the story of the PIDs that the evidence names."""
        pids: dict[str, None] = {}
        for violation in self.outcome.violations[:3]:
            for entry in violation.evidence:
                pids.update(dict.fromkeys(_PID.findall(repr(entry.record))))
        for complaint in self.outcome.complaints:
            pids.update(dict.fromkeys(_PID.findall(complaint)))
        told = [f"--- {pid}\n{tell(story(self.session.window, pid))}" for pid in list(pids)[:6]]
        self.outcome.story = "\n".join(told)[:STORY] + f"\n--- the log\n{self.session.runtime.log_end()[-4000:]}"


_PID = re.compile(r"\{[^{}|]*\|[0-9a-f]{16}\.[^{}]*\}")


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text)
