"""A random program: operations as small frozen values, and how they are drawn.

Owns what can be said; nothing here is performed. Processes are slots and clients are streams, both small numbers: the interpreter
knows which PID is in a slot. `repr(program)` is Python that `parse` reads back, so that what has failed can be performed again.
Hypothesis and `random.Random` draw from the same tables.
"""

from __future__ import annotations

import ast
import random
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from wsrelay.tools.faults import kinds
from wsrelay.tools.faults.kinds import Fault

if TYPE_CHECKING:  # a test's; the soak draws without it
    from hypothesis import strategies as st

SLOTS: Final = tuple(range(6))
KEEPER: Final = 6
"""The slot of the service, whose clients are held while it is restarted (S56). It cannot be spawned."""
STREAMS: Final = tuple(range(4))
ANYBODY: Final = (*SLOTS, KEEPER)


class Operation:
    """Any operation; the fields of each are drawn from DOMAINS."""


@dataclass(frozen=True)
class Spawn(Operation):
    """The conductor spawns a process into a slot; one that was there before lives on."""

    slot: int
    how: str


@dataclass(frozen=True)
class Child(Operation):
    """A process spawns another, into a slot."""

    by: int
    slot: int
    relation: str


@dataclass(frozen=True)
class Ask(Operation):
    """A process does something to another one, which may be dead."""

    by: int
    what: str
    other: int


@dataclass(frozen=True)
class Do(Operation):
    """A process does something that concerns no other one."""

    by: int
    task: str


@dataclass(frozen=True)
class Connect(Operation):
    """A client connects, to a slot; `beats`: which gets heartbeats of it."""

    stream: int
    to: int
    beats: bool = False


@dataclass(frozen=True)
class Say(Operation):
    """A client sends so many numbered messages."""

    stream: int
    count: int


@dataclass(frozen=True)
class Close(Operation):
    """A client closes."""

    stream: int


@dataclass(frozen=True)
class Visit(Operation):
    """So many clients of their own connect to a slot at once, say something, and are gone."""

    to: int
    count: int


@dataclass(frozen=True)
class Transfer(Operation):
    """The target of a client hands it on (S47); `returns`: and ends at once."""

    stream: int
    to: int
    returns: bool


@dataclass(frozen=True)
class Serve(Operation):
    """A process does something to a client, or rather to the connection."""

    by: int
    service: str
    stream: int


@dataclass(frozen=True)
class Upgrade(Operation):
    """The code of a process is replaced (S35)."""

    victim: int


@dataclass(frozen=True)
class Inject(Operation):
    """A fault in the process of a slot, or to it."""

    victim: int
    fault: Fault


@dataclass(frozen=True)
class Resume(Operation):
    """SIGCONT for a process that was stopped."""

    slot: int


@dataclass(frozen=True)
class InHandler(Operation):
    """A fault in an HTTP handler (S58)."""

    handler_fault: Fault


@dataclass(frozen=True)
class Misbehave(Operation):
    """A client of its own that behaves badly."""

    client_fault: Fault


@dataclass(frozen=True)
class Break(Operation):
    """A part of the runtime is killed."""

    part: Fault


@dataclass(frozen=True)
class GiveUp(Operation):
    """A service is killed until it is given up (S37), and told to start again."""


@dataclass(frozen=True)
class Between(Operation):
    """The next process that comes to a failpoint stands still there, while the process of a slot is killed."""

    point: str
    victim: int


@dataclass(frozen=True)
class DieAt(Operation):
    """The next process that comes to a failpoint dies there of SIGKILL."""

    place: str


Program = tuple[Operation, ...]

DOMAINS: Final[dict[str, tuple[Any, ...]]] = {
    "slot": SLOTS,
    "by": SLOTS,
    "victim": ANYBODY,
    "to": ANYBODY,
    "other": ANYBODY,
    "stream": STREAMS,
    "count": (1, 2, 5, 20),
    "returns": (False, True),
    "beats": (False, True),
    "how": ("plain", "trapping", "named", "limited"),
    "relation": ("plain", "linked", "monitored", "linked and monitored"),
    "what": (
        "send", "monitor", "link", "send", "monitor", "link", "join", "unlink", "unmonitor", "cancel", "cancel with grace",
        "terminate",
    ),
    "task": (
        "trap", "do not trap", "return", "register", "unregister", "look up", "join", "leave", "members", "broadcast",
        "exec value", "exec raise", "exec killed", "exec given up", "watch", "watch", "unwatch", "listen", "listen", "unlisten",
    ),
    "service": ("send", "close", "close 4001", "cancel", "terminate", "monitor", "link", "take"),
    "fault": (
        kinds.Raise(), kinds.ExitCode(3), kinds.ExitCode(0), kinds.OsExit(0), kinds.OsExit(7), kinds.Segfault(),
        kinds.Signal("SIGKILL"), kinds.Signal("SIGABRT"), kinds.Signal("SIGTERM"), kinds.StackOverflow(), kinds.Stop(None),
        kinds.Stop(0.05), kinds.BusyLoop(0.1), kinds.BusyLoop(None), kinds.HoldGIL(0.1), kinds.HoldGIL(None),
        kinds.ForkKeepsChannel(), kinds.Garbage("control"), kinds.Garbage("data"), kinds.TornFrame("control"),
        kinds.TornFrame("data"), kinds.MemoryHog(),
    ),
    "handler_fault": (
        kinds.Raise(), kinds.ExitCode(2), kinds.OsExit(0), kinds.Segfault(), kinds.Signal("SIGKILL"), kinds.ForkKeepsChannel(),
        kinds.TornFrame("control"), kinds.Garbage("control"),
    ),
    "client_fault": (
        kinds.ResetLine(0), kinds.ResetLine(5), kinds.ClientGarbage(), kinds.SlowClient(5), kinds.NeverReads(),
    ),
    "part": (kinds.KillGateway(), kinds.KillHost(), kinds.KillSupervisor()),
    "point": (
        "spawn.asked", "spawn.forked", "spawn.started", "death.noticed", "death.drained", "death.committed", "death.reaped",
        "death.published", "exit.report.written", "transfer.requested", "transfer.cut", "transfer.joined", "close.sent",
        "service.restarting", "upgrade.handed_over", "upgrade.reaped", "upgrade.resumed",
    ),
    "place": (
        "spawn.started", "exit.report.written", "spawn.forked", "transfer.requested", "transfer.cut", "transfer.joined",
        "close.sent", "upgrade.handed_over", "upgrade.resumed",
    ),
}  # fmt: skip
"""What each field may be, the simple first: the order in which Hypothesis shrinks."""

WEIGHTS: Final[dict[type[Operation], int]] = {
    Spawn: 30, Child: 80, Ask: 240, Do: 120, Connect: 60, Say: 150, Close: 20, Visit: 20, Transfer: 80, Serve: 100,
    Upgrade: 60, Inject: 320, Resume: 10, InHandler: 40, Misbehave: 40, Between: 60, DieAt: 12, Break: 10, GiveUp: 10,
}  # fmt: skip
"""How often each is drawn, of their sum."""
RARE: Final[dict[Fault, float]] = {
    kinds.MemoryHog(): 0.3, kinds.BusyLoop(None): 0.3, kinds.HoldGIL(None): 0.5, kinds.NeverReads(): 0.2,
    kinds.KillGateway(): 0.7, kinds.KillSupervisor(): 0.1,
}  # fmt: skip
"""The share of these that is kept: they take long, or end the example."""
FAULTS: Final = (Inject, InHandler, Misbehave, Break, Between, DieAt, GiveUp)
"""The operations that inject a fault."""
FAILPOINTS: Final = frozenset(DOMAINS["point"]) | frozenset(DOMAINS["place"])


def draw(source: random.Random, length: int) -> Program:
    """Draw a program of up to `length` operations. The last of it is the first that kills the supervisor."""
    drawn: list[Operation] = []
    for kind in source.choices(list(WEIGHTS), list(WEIGHTS.values()), k=length):
        operation = kind(*(source.choice(DOMAINS[field.name]) for field in fields(kind)))  # type: ignore[arg-type]
        share = next((RARE[fault] for fault in faults_in((operation,)) if fault in RARE), 1.0)
        if source.random() < share:
            drawn.append(operation)
    return ending(tuple(drawn))


def ending(program: Program) -> Program:
    """The program up to the death of its supervisor: nothing can be asked for after it."""
    for index, operation in enumerate(program):
        if isinstance(operation, Break) and isinstance(operation.part, kinds.KillSupervisor):
            return program[: index + 1]
    return program


def faults_in(program: Program) -> list[Fault]:
    """The faults of the kit in it."""
    found = [getattr(operation, field.name) for operation in program for field in fields(operation)]  # type: ignore[arg-type]
    return [value for value in found if isinstance(value, Fault)]


def programs(length: int) -> st.SearchStrategy[Program]:
    """Hypothesis's own drawing of up to `length` operations: each shrinks by itself, and to nothing."""
    from hypothesis import strategies as st

    each = [
        st.builds(kind, **{field.name: st.sampled_from(DOMAINS[field.name]) for field in fields(kind)})  # type: ignore[arg-type]
        for kind in WEIGHTS
        if kind is not Break
    ]
    parts = st.builds(Break, st.sampled_from(DOMAINS["part"][:2]))
    # Faults twice as often as in a soak: what an example costs is its beginning and its end.
    times = [max(1, WEIGHTS[kind] // 20) * (2 if kind in FAULTS else 1) for kind in WEIGHTS if kind is not Break]
    weighted = [strategy for strategy, n in zip(each, times, strict=True) for _ in range(n)]
    operation = st.integers(0, 999).flatmap(
        lambda n: st.none() if n < 30 else parts if n > 990 else weighted[n % len(weighted)]
    )
    return st.tuples(*[operation] * length).map(lambda drawn: tuple(one for one in drawn if one is not None))


_NAMES: Final[dict[str, Any]] = {kind.__name__: kind for kind in WEIGHTS} | {kind.__name__: kind for kind in kinds.ALL}


def parse(text: str) -> Program:
    """Read `repr(program)` back. Raises ValueError for anything else; nothing is evaluated."""
    try:
        value = _read(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, TypeError) as error:
        raise ValueError(f"this is no program: {error}") from None
    if not isinstance(value, tuple) or not all(isinstance(one, Operation) for one in value):
        raise ValueError(
            "this is no program: expected a tuple of operations, such as (Inject(victim=0, fault=Raise()),)"
        )
    return value


def _read(node: ast.expr) -> Any:
    if isinstance(node, ast.Tuple):
        return tuple(map(_read, node.elts))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _NAMES:
        named = {word.arg: _read(word.value) for word in node.keywords if word.arg is not None}
        return _NAMES[node.func.id](*map(_read, node.args), **named)
    return ast.literal_eval(node)


def show(program: Program) -> str:
    """The program, an operation a line, as it can be pasted."""
    return "(\n" + "".join(f"    {operation!r},\n" for operation in program) + ")"
