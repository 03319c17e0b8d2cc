"""Performs a random program on a session's runtime, waits until nothing goes on, and has the journals checked.

Faults fly while the program goes on: nothing waits for them but the end. Checked is twice: when all is quiet, while what has
survived still lives, and when everything has been ended.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, Final

from wsrelay.kernel.wire import journal_records as j
from wsrelay.tools.faults.checker import check, story, tell
from wsrelay.tools.faults.entry import Entry

from . import program as p
from .clients import PATIENCE, Client, Line
from .injecting import Injector
from .session import Outcome, Session
from .waiting import LOOK, Stuck, until
from .watching import Bystander, endings

QUIET_LOOKS: Final = 3
"""So often nothing must go on, to be quiet."""
SECOND_LOOK: Final = 1.0
"""Seconds after which a violation is looked for again: what was only under way has come by then."""
KEEPER_SERVICE: Final = "soak:keeper_service"
BEATS: Final = "30ms"
"""Between two heartbeats to a target."""
SPAWNS: Final = 5
"""So often a process is spawned that is needed: the order may be lost with the gateway, or the process dies at once."""
SLOW: Final = 1.0
"""Seconds to what is to be seen of a fault, beyond which its story is kept."""
STORY: Final = 20_000
"""Characters of the story of a violation."""


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
        self.clients: list[Client] = []
        self._holders: dict[int, int] = {}
        self._injector = Injector(session, self.outcome, self)

    async def run(self) -> Outcome:
        """Perform and check. What goes wrong is in the outcome."""
        self._line = Line(self.session.runtime.ws_url("/control"), self._born)
        bystander = Bystander(self.session.book, self.session.runtime.ws_url("/plain"), self.session.measure_memory)
        self.session.peaks.clear()
        try:
            await self._line.ask("hello")
            for operation in self.outcome.program:
                await self._perform(operation)
            await self._injector.finish()
            await bystander.close()
            if not self._injector.dead:
                await self._settle()
                self.outcome.complaints += self._injector.confirmed()
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
            await self._injector.abandon()
        self.session.look()
        peaks = {f"memory of the {part}": peak for part, peak in self.session.peaks.items()}
        self.outcome.disturbed = {"latency of a bystander": bystander.worst, **peaks}
        self.outcome.faults += endings(self.session.window, self.outcome.complaints)
        self.outcome.slow = [
            f"{fault.name} shows after {fault.seconds:.3f} s\n{tell(story(self.session.window, fault.pid))}"
            for fault in self.outcome.faults
            if fault.pid and fault.seconds is not None and fault.seconds > SLOW
        ]
        if self.outcome.failed:
            self._explain()
        if self.outcome.failed or self._injector.dead:
            self.session.ended = True
        else:
            self.session.settle_accounts()
        return self.outcome

    # --- operations ---------------------------------------------------------------------------------------------------

    async def _perform(self, operation: p.Operation) -> None:
        match operation:
            case p.Spawn(slot, how):
                await self.spawn(slot, how)
            case p.Child(by, slot, relation):
                await self.order(await self.need(by), "child", slot, relation)
            case p.Ask(by, "join", p.KEEPER):
                pass  # nobody would take it out of the group again
            case p.Ask(by, what, other):
                await self.order(await self.need(by), what, await self.need(other))
            case p.Do(by, task):
                what, _, rest = task.partition(" ")
                await self.order(await self.need(by), *((what, rest) if what == "exec" else (task,)))
            case p.Connect(stream, to, beats):
                await self._connect(stream, to, beats=beats)
            case p.Say(stream, count):
                await (await self._client(stream)).say(count)
            case p.Close(stream):
                client = self._clients.pop(stream, None)
                if client is not None:
                    self._injector.start(client.close())
            case p.Visit(to, count):
                target = "keeper" if to == p.KEEPER else await self.need(to)
                for _ in range(count):
                    self._injector.start(self._visit(target))
            case p.Transfer(stream, to, returns):
                client, target = await self._client(stream), await self.need(to)
                holder = self._holders.get(stream, stream)
                returns = returns and holder != p.KEEPER
                await self.order(await self.need(holder), "transfer", client.stream, target, returns)
                self._holders[stream] = to
            case p.Upgrade(victim):
                await self.order(await self.need(victim), "upgrade")
            case p.Serve(by, service, stream):
                client = await self._client(stream)
                await self.order(await self.need(by), "serve", service, client.stream)
            case _:
                await self._injector.inject(operation)

    async def spawn(self, slot: int, how: str) -> None:
        """Have the conductor spawn a process into a slot."""
        pid = await self._line.ask("spawn", slot, how)
        self.session.look()
        if isinstance(pid, str) and pid.startswith("{"):
            self._slots[slot] = pid

    def _born(self, slot: int, pid: str) -> None:
        self._slots[slot] = pid

    async def need(self, slot: int) -> str:
        """The PID in a slot; one is spawned if there was none, or it is dead."""
        self.session.look()
        if slot == p.KEEPER:
            return self.session.picture.service_pids[KEEPER_SERVICE]
        for _ in range(SPAWNS):
            if self._slots.get(slot) in self.session.picture.live:
                break
            await self.spawn(slot, "plain")
        if slot not in self._slots:
            raise Stuck(f"{SPAWNS} times nothing was spawned into slot {slot}")
        return self._slots[slot]

    async def terminate(self, pid: str) -> None:
        """Have the conductor terminate a process."""
        await self._line.ask("terminate", pid)

    async def order(self, pid: str, what: str, *arguments: Any) -> None:
        """Have the conductor tell an actor to do something."""
        await self._line.ask("order", pid, what, *arguments)

    async def _connect(self, stream: int, to: int, *, beats: bool = False) -> Client:
        target = "keeper" if to == p.KEEPER else await self.need(to)
        client = Client(self.session.book, f"{self._name}.{stream}.{len(self.clients)}")
        if await client.connect(self.session.runtime.ws_url("/join"), target, BEATS if beats else ""):
            if (before := self._clients.get(stream)) is not None:
                self._injector.start(before.close())
            self.clients.append(client)
            self._clients[stream] = client
            self._holders[stream] = to
        return self._clients.get(stream, client)

    async def _visit(self, target: str) -> None:
        client = Client(self.session.book, f"{self._name}.visit.{len(self.clients)}")
        self.clients.append(client)
        if await client.connect(self.session.runtime.ws_url("/join"), target, ""):
            await client.say(2)
            await client.close()

    async def _client(self, stream: int) -> Client:
        """The client of a stream; it connects if it was not."""
        client = self._clients.get(stream)
        return client if client is not None and client.open else await self._connect(stream, stream)

    # --- the end ------------------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Wait until nothing goes on. Raises Stuck."""
        quiet = 0
        why = ""

        def is_quiet() -> bool:
            nonlocal quiet, why
            new = [entry for entry in self.session.look() if not _goes_on(entry)]
            why = self.session.picture.under_way(set()) or ("records are written" if new else "")
            quiet = 0 if why else quiet + 1
            return quiet >= QUIET_LOOKS

        await until(is_quiet, lambda: f"everything to be quiet: {why}")

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
            await asyncio.gather(*(client.close() for client in self.clients))
        begun = time.monotonic()
        asked: set[str] = set()
        while actors := [pid for pid in self._actors() if pid != self._line.conductor]:
            for index, pid in enumerate(pid for pid in actors if pid not in asked):
                asked.add(pid)
                await self._line.ask("cancel" if index % 3 == 0 else "terminate", pid)
            if time.monotonic() - begun > PATIENCE:
                raise Stuck(f"waited {PATIENCE:g} s for the end of {actors}")
            await asyncio.sleep(LOOK)
        await asyncio.gather(*(client.close() for client in self.clients))

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


def _goes_on(entry: Entry) -> bool:
    """Whether such records come for ever: a client gets its heartbeats also when all is quiet, and its target waits again."""
    match entry.record:
        case j.Readable(topic=topic) | j.Taken(topic=topic):
            return topic == "ws.heartbeat"
    return isinstance(entry.record, j.Waiting)


_PID = re.compile(r"\{[^{}|]*\|[0-9a-f]{16}\.[^{}]*\}")
