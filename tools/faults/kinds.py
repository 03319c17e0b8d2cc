"""The faults, as values: what each is, where it can be put, and what must be seen of it (S18, S49).

Frozen dataclasses, so that Hypothesis can draw, compare and shrink them. `repr(fault)` is Python that makes it again, and
`parse` reads it back: the same notation stands in failure messages, in a test, and on the way into a handler. Knows nothing
of how a fault is performed; imports the standard library alone, because handlers import it.
"""

from __future__ import annotations

import ast
import enum
from dataclasses import dataclass
from typing import Any, ClassVar, Final

CUT: Final = 1006
"""The close code of a line that was cut: no close frame came."""


class Where(enum.Enum):
    """From where a fault is put in."""

    INSIDE = "inside"
    """By the handler's own process: `point`, `obey` or `inject`."""
    OUTSIDE = "outside"
    """By the test, on the OS processes of the runtime."""
    CLIENT = "client"
    """By a client that behaves badly."""


class Scope(enum.Enum):
    """Who may notice. Each includes the one before."""

    NOBODY = 0
    CLIENT = 1
    """The client that did it."""
    TARGET = 2
    """The process that was hit, its clients, and what is linked to it or watches it (S42)."""
    CONNECTIONS = 3
    """Every WebSocket connection is cut; the processes live on (S41)."""
    RUNTIME = 4
    """Everything ends (S40)."""


@dataclass(frozen=True)
class Outcome:
    """What must be seen of a fault, whatever else goes on."""

    scope: Scope
    reasons: tuple[str, ...] = ()
    """The kinds of the reason (S18) with which the process that was hit ends, any of which is right; none: it lives on."""
    codes: tuple[int, ...] = ()
    """The close codes that its clients see if no service restarts it (S49), any of which is right; none: they stay connected."""
    hangs: bool = False
    """It neither ends nor answers, until it is killed: hung is not dead (S17)."""

    @property
    def ends(self) -> bool:
        """Whether the process that was hit ends by this fault alone."""
        return bool(self.reasons)

    @property
    def status(self) -> int | None:
        """The HTTP status, if it was an HTTP handler that was hit (S58). None: what the handler says."""
        if not self.reasons or "normal" in self.reasons:
            return None
        return 500 if "exception" in self.reasons else 502


NOBODY_NOTICES: Final = Outcome(Scope.NOBODY)
HANGS: Final = Outcome(Scope.TARGET, hangs=True)


def crash(kind: str) -> Outcome:
    """An abnormal end with this kind of reason."""
    return Outcome(Scope.TARGET, (kind,), (1011,))


@dataclass(frozen=True)
class Fault:
    """Any fault."""

    places: ClassVar[frozenset[Where]] = frozenset({Where.INSIDE})
    needs: ClassVar[str] = ""
    """What the host must be configured with; empty if nothing."""

    @property
    def outcome(self) -> Outcome:
        """What must be seen of it."""
        raise NotImplementedError

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How Hypothesis shows it: as it can be pasted, without what belongs to the class."""
        printer.text(repr(self))


# --- a handler ends itself --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Raise(Fault):
    """An exception that nothing catches."""

    text: str = "fault"

    @property
    def outcome(self) -> Outcome:
        return crash("exception")


@dataclass(frozen=True)
class ExitCode(Fault):
    """`sys.exit(code)`. 0 is a clean end."""

    code: int = 1

    @property
    def outcome(self) -> Outcome:
        return crash(f"exit:{self.code}") if self.code else Outcome(Scope.TARGET, ("normal",), (1000,))


@dataclass(frozen=True)
class OsExit(Fault):
    """`os._exit(code)`: no report is made, so 0 is no clean end either."""

    code: int = 0

    @property
    def outcome(self) -> Outcome:
        return crash(f"exit:{self.code}")


@dataclass(frozen=True)
class Signal(Fault):
    """A signal ends the process: from itself or, if `perform` is told an os_pid, from outside."""

    places: ClassVar[frozenset[Where]] = frozenset({Where.INSIDE, Where.OUTSIDE})
    name: str = "SIGKILL"

    @property
    def outcome(self) -> Outcome:
        return crash(f"signal:{self.name}")


@dataclass(frozen=True)
class Segfault(Fault):
    """C code reads at address 0."""

    @property
    def outcome(self) -> Outcome:
        return crash("signal:SIGSEGV")


@dataclass(frozen=True)
class StackOverflow(Fault):
    """C code recurses until the stack ends."""

    @property
    def outcome(self) -> Outcome:
        return crash("signal:SIGSEGV")


@dataclass(frozen=True)
class MemoryHog(Fault):
    """Takes `size` bytes, which must be more than the host's `limits.memory`, and waits to be killed."""

    needs: ClassVar[str] = "limits.memory"
    size: int = 256 * 1024 * 1024

    @property
    def outcome(self) -> Outcome:
        return crash("limit:oom")


# --- a handler that does not answer -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class BusyLoop(Fault):
    """Python runs for `seconds`; None is for ever."""

    seconds: float | None = None

    @property
    def outcome(self) -> Outcome:
        return HANGS if self.seconds is None else NOBODY_NOTICES


@dataclass(frozen=True)
class HoldGIL(Fault):
    """A C call keeps the interpreter's lock for `seconds`; None is for ever."""

    seconds: float | None = None

    @property
    def outcome(self) -> Outcome:
        return HANGS if self.seconds is None else NOBODY_NOTICES


@dataclass(frozen=True)
class Stop(Fault):
    """SIGSTOP, and SIGCONT after `seconds`; None: it stays stopped."""

    places: ClassVar[frozenset[Where]] = frozenset({Where.OUTSIDE})
    seconds: float | None = 0.1

    @property
    def outcome(self) -> Outcome:
        return HANGS if self.seconds is None else NOBODY_NOTICES


# --- the channel ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ForkKeepsChannel(Fault):
    """A child in a session of its own keeps the channels open, and the process is killed: nobody may wait for the child (S13,
    S16), and it may not be left."""

    @property
    def outcome(self) -> Outcome:
        return crash("signal:SIGKILL")


@dataclass(frozen=True)
class Garbage(Fault):
    """Bytes that are no frame, on the `control` or the `data` channel; then the process waits (S11)."""

    channel: str = "control"
    data: bytes = b"\xc1"

    @property
    def outcome(self) -> Outcome:
        return crash("protocol")


@dataclass(frozen=True)
class TornFrame(Fault):
    """The beginning of a frame, and then SIGKILL: what is torn by a death is dropped (S11)."""

    channel: str = "control"

    @property
    def outcome(self) -> Outcome:
        return crash("signal:SIGKILL")


# --- the runtime's own parts ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KillGateway(Fault):
    """SIGKILL to the gateway (S41)."""

    places: ClassVar[frozenset[Where]] = frozenset({Where.OUTSIDE})

    @property
    def outcome(self) -> Outcome:
        return Outcome(Scope.CONNECTIONS, (), (CUT,))


@dataclass(frozen=True)
class KillHost(Fault):
    """SIGKILL to the fork server of a host, by its id; empty: of any (S41a)."""

    places: ClassVar[frozenset[Where]] = frozenset({Where.OUTSIDE})
    host: str = ""

    @property
    def outcome(self) -> Outcome:
        return NOBODY_NOTICES


@dataclass(frozen=True)
class KillSupervisor(Fault):
    """SIGKILL to the supervisor (S40)."""

    places: ClassVar[frozenset[Where]] = frozenset({Where.OUTSIDE})

    @property
    def outcome(self) -> Outcome:
        return Outcome(Scope.RUNTIME, (), (CUT, 1012))


# --- clients ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ResetLine(Fault):
    """A client sends `messages` text messages and resets its TCP connection."""

    places: ClassVar[frozenset[Where]] = frozenset({Where.CLIENT})
    messages: int = 1

    @property
    def outcome(self) -> Outcome:
        return Outcome(Scope.CLIENT, (), (CUT,))


@dataclass(frozen=True)
class ClientGarbage(Fault):
    """A client sends bytes that are no WebSocket frame: by default one with a reserved bit set."""

    places: ClassVar[frozenset[Where]] = frozenset({Where.CLIENT})
    data: bytes = b"\xf1\x80\x00\x00\x00\x00"

    @property
    def outcome(self) -> Outcome:
        return Outcome(Scope.CLIENT, (), (1002,))


@dataclass(frozen=True)
class SlowClient(Fault):
    """A client sends `messages` text messages, and reads the answers byte by byte, with a small window: nobody waits for it."""

    places: ClassVar[frozenset[Where]] = frozenset({Where.CLIENT})
    messages: int = 10

    @property
    def outcome(self) -> Outcome:
        return NOBODY_NOTICES


@dataclass(frozen=True)
class NeverReads(Fault):
    """A client sends `size` bytes, and then a little now and then, until it is cut, and never reads: it is closed with 1013 if
    its target answers each message, which it does not see; its line is cut (S54). A fault that finds a bug: `perform` raises
    AssertionError if the line is not cut `within` so many seconds."""

    places: ClassVar[frozenset[Where]] = frozenset({Where.CLIENT})
    size: int = 16 * 1024 * 1024
    """More than the operating system keeps for a client: the rest waits in the gateway, whose bound is less."""
    within: float = 45.0
    """Seconds from the last byte that is taken. More than `timeouts.write` and `timeouts.close` together."""

    @property
    def outcome(self) -> Outcome:
        return Outcome(Scope.CLIENT, (), (1013, CUT))


ALL: Final[tuple[type[Fault], ...]] = (
    Raise, ExitCode, OsExit, Signal, Segfault, StackOverflow, MemoryHog, BusyLoop, HoldGIL, Stop,
    ForkKeepsChannel, Garbage, TornFrame, KillGateway, KillHost, KillSupervisor,
    ResetLine, ClientGarbage, SlowClient, NeverReads,
)  # fmt: skip
"""Every kind, the simple ones first: the order in which Hypothesis shrinks."""
_BY_NAME: Final = {kind.__name__: kind for kind in ALL}


def parse(text: str) -> Fault:
    """Read `repr(fault)` back. Raises ValueError for anything else; nothing is evaluated."""
    try:
        node = ast.parse(text, mode="eval").body
    except SyntaxError:
        node = ast.Constant(None)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in _BY_NAME:
        raise ValueError(f"{text!r:.200} is no fault: expected one as its repr says it, such as Signal(name='SIGKILL')")
    try:
        given = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg is not None}
        return _BY_NAME[node.func.id](*map(ast.literal_eval, node.args), **given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{text!r:.200} is no fault: {error}") from None
