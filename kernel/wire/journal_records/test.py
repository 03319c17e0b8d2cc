"""What a test notes: its handlers, its clients, the faults that it injects, and what it measures."""

from __future__ import annotations

from typing import Final, NamedTuple


class NumberSent(NamedTuple):
    """A handler has sent the `number`-th item of its stream to `to`."""

    pid: str
    to: str
    number: int


class NumberReceived(NamedTuple):
    """A handler has received the `number`-th item of `sender`'s stream: a process's, or a client's, whose PID is `sender`
    and whose name in the test is `stream`."""

    pid: str
    sender: str
    stream: str
    number: int


class ClientOpened(NamedTuple):
    """A client's handshake is complete."""

    stream: str


class ClientSent(NamedTuple):
    """A client has sent the `number`-th item of its stream, from 1."""

    stream: str
    number: int


class ClientReceived(NamedTuple):
    """A client has received a message: the `number`-th item of the stream of the process `sender`, if that is known."""

    stream: str
    number: int
    sender: str = ""


class ClientClosed(NamedTuple):
    """A client's line has ended; `code` is that of the server's Close frame, 1005 for an empty one, 1006 without one."""

    stream: str
    code: int


class ClientCut(NamedTuple):
    """The test cuts a client's line, or stops reading for good: 1006 is its own doing."""

    stream: str


class FaultInjected(NamedTuple):
    """The test does something to an OS process, or to the runtime."""

    fault: str
    os_pid: int


class Sample(NamedTuple):
    """A measurement: `what` of `whose` in a phase. Phases have meaning: `baseline` and `end` are compared (invariant 15),
    `undisturbed` and `disturbed` too (invariant 11). Latencies are in seconds, memory in bytes, the rest are counts."""

    what: str
    whose: str
    phase: str
    value: float


class Bound(NamedTuple):
    """What samples may be at most, in any phase (invariant 11)."""

    what: str
    whose: str
    value: float


class LeftBehind(NamedTuple):
    """After its end, something of the runtime was still there (invariant 10)."""

    what: str
    os_pid: int


class Note(NamedTuple):
    """Anything else that a test wants in the story."""

    pid: str
    what: str
    number: int


TEST_RECORDS: Final[tuple[type, ...]] = (
    NumberSent, NumberReceived, ClientOpened, ClientSent, ClientReceived, ClientClosed, ClientCut, FaultInjected,
    Sample, Bound, LeftBehind, Note,
)  # fmt: skip
