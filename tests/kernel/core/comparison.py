"""The process table and its model side by side: what the one did is what the other asks for, and in a lawful order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine
from wsrelay.kernel.core.effects import (
    Effect,
    KillWorker,
    PoolRefill,
    ProcessEnded,
    SendToGateway,
    SendToWorker,
    SetTimer,
    StartWorker,
)
from wsrelay.kernel.core.table import ProcessTable
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import Application, Entry, HostConfiguration
from wsrelay.kernel.wire.reason import WireReason

from .model import Being, Model, OsProcess, plain

EPOCH = "00112233445566ff"
GATEWAY = 3
STRANGERS = ["{n@t:host|ffffffffffffffff.s.1}", f"{{n@t:host|{EPOCH}.s.999999}}"]
"""PIDs of another boot, and of nobody."""
NAMES = ["room", "hall", "lobby"]
FUNCTION_HOSTS = {"t:f": "t:host", "t:g": "t:small", "t:never": "t:none"}
POOL_SIZES = {"t:host": 2, "t:small": 1, "t:none": 0}
MAX_PROCESSES = {"t:host": 6, "t:small": 2, "t:none": 1}


def application() -> Application:
    return Application(
        hosts={
            id: HostConfiguration(id, max_processes=MAX_PROCESSES[id], functions=POOL_SIZES[id]) for id in POOL_SIZES
        },
        processes={id: Entry(id, f"file:///{id[2:]}.py", "main") for id in ("t:actor", "t:other")},
        functions={id: Entry(id, "file:///f.py", "f") for id in FUNCTION_HOSTS},
        function_hosts=FUNCTION_HOSTS,
    )


class Comparison(RuleBasedStateMachine):
    """Both, the clock, and the timers that were asked for. Rules are added below it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = ProcessTable(application(), node="n", epoch=EPOCH, gateway=GATEWAY, random=lambda: 0.5)
        self.model = Model(FUNCTION_HOSTS, POOL_SIZES)
        self.now = 1000.0
        self.requests = 0
        self.incarnation = GATEWAY
        self.connections = 0
        self.timers: list[SetTimer] = []
        self.pids: set[str] = set()
        """Every PID that there ever was."""
        self.numbers: set[int] = set()
        self.reasons: dict[str, WireReason] = {}
        """Why the dead died."""

    # --- comparing ----------------------------------------------------------------------------------------------------

    def settle(self, effects: list[Effect], expected: Iterable[Any] = ()) -> None:
        """The effects are what the model expects, and what it lets the table choose is allowed."""
        wanted = Counter(map(plain, expected))  # runs the model first
        rest: list[Effect] = []
        for effect in effects:
            if not self.learn(effect, effects):
                rest.append(effect)
        got = Counter(map(plain, rest))
        assert got == wanted, f"missing {wanted - got}, unexpected {got - wanted}"
        self.check_order(effects)
        for effect in effects:
            if isinstance(effect, SendToWorker | KillWorker):
                assert effect.worker in self.model.workers, "a word to the dead"
            if isinstance(effect, ProcessEnded):
                self.check_reason(effect, effects)

    def learn(self, effect: Effect, effects: list[Effect]) -> bool:
        """Take over what the table may choose: PIDs, numbers, which free worker, when a pool is refilled."""
        match effect:
            case StartWorker(number, host, start):
                assert number not in self.numbers
                assert (start.worker, start.host) == (number, host)
                self.numbers.add(number)
                self.model.workers[number] = OsProcess(number, host, start.pid or None, not start.pid, self.incarnation)
                if start.pid:
                    self.new_pid(start.pid)
                else:
                    assert not self.model.closed
                return True
            case SendToGateway(m.Granted(request, pid, number)):
                worker = self.model.workers[number]
                assert worker in self.model.free(worker.host)
                assert request == self.model.waiting_for(worker.host)[0], "first come, first served"
                function = dict(self.model.waiting)[request]
                self.model.waiting.remove((request, function))
                self.new_pid(pid)
                worker.pid = pid
                handshake = request in self.model.handshakes
                invocation = Being(pid, "invocation", function, number, request=request, handshake=handshake)
                self.model.beings[pid] = invocation
                invoke = SendToWorker(number, m.Invoke(pid, function, "file:///f.py", "f"))
                assert invoke in effects
                return True
            case SendToWorker(number, m.Invoke(pid)):
                assert any(
                    isinstance(other, SendToGateway)
                    and isinstance(other.record, m.Granted)
                    and other.record[1:] == (pid, number)
                    for other in effects
                )
                return True
            case SetTimer(deadline, PoolRefill()):
                assert deadline > self.now
                self.timers.append(effect)
                return True
            case SetTimer():
                self.timers.append(effect)
        return False

    def new_pid(self, pid: str) -> None:
        assert pid not in self.pids, "a PID is never reused (S1)"
        self.pids.add(pid)

    def check_order(self, effects: list[Effect]) -> None:
        """S15: after a notice nothing comes that knows the dead. S20: the answer comes before the notice."""
        noticed: set[str] = set()
        told: set[int] = set()
        for effect in effects:
            match effect:
                case SendToWorker(number, m.Exit() | m.LinkDown() as notice):
                    noticed.add(notice.pid)
                    told.add(number)
                case SendToWorker(number, record):
                    assert not (isinstance(record, m.Reply | m.Failed) and number in told), "the answer comes first"
                    assert not any(pid in repr(record) for pid in noticed)
                case SendToGateway(m.EndConnection(connection, _)):
                    assert connection not in noticed
                case SendToGateway() | StartWorker() | ProcessEnded():
                    assert not any(pid in repr(effect) for pid in noticed)
                case KillWorker(number):
                    assert self.model.workers[number].pid not in noticed

    def check_reason(self, ended: ProcessEnded, effects: list[Effect]) -> None:
        """All observers of a death report one reason, and a death that came down a link has its origin's."""
        self.reasons[ended.pid] = ended.reason
        for effect in effects:
            record = getattr(effect, "record", None)
            if (
                isinstance(record, m.Exit | m.LinkDown | m.WorkerEnded | m.InvocationFinished)
                and record.pid == ended.pid
            ):
                assert record.reason == ended.reason
        if ended.reason.origin is not None:
            assert ended.reason._replace(origin=None) == self.reasons[ended.reason.origin]

    def ask(self, pid: str, record: tuple[Any, ...], expected: Iterable[Any] = ()) -> list[Effect]:
        """The process `pid` writes a record."""
        effects = self.table.from_worker(self.model.beings[pid].worker, record, self.now)
        self.settle(effects, expected)
        return effects

    def gateway(self, record: tuple[Any, ...], expected: Iterable[Any] = ()) -> None:
        self.settle(self.table.from_gateway(record), expected)

    def number(self) -> int:
        self.requests += 1
        return self.requests

    def reply(self, pid: str, request: int, value: Any = None) -> SendToWorker:
        return self.model.to(pid, m.Reply(request, value))

    def failed(self, pid: str, request: int, error: str, holder: str | None = None) -> SendToWorker:
        return self.model.to(pid, m.Failed(request, error, "", holder))

    # --- picking ------------------------------------------------------------------------------------------------------

    def programs(self, kind: str = "") -> list[str]:
        """The processes that can write a record: not those that have written their last one."""
        return [
            b.pid
            for b in self.model.beings.values()
            if b.kind != "connection" and kind in b.kind and not self.model.workers[b.worker].handed_over
        ]

    def open_connections(self) -> list[str]:
        return [b.pid for b in self.model.beings.values() if b.kind == "connection"]

    def program(self, data: st.DataObject, kind: str = "") -> str:
        return data.draw(st.sampled_from(self.programs(kind)), "process")

    def anybody(self, data: st.DataObject) -> str:
        dead = list(self.reasons)[-2:]
        return data.draw(st.sampled_from([*self.model.beings, *dead, *STRANGERS]), "anybody")
