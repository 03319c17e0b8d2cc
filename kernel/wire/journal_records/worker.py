"""What a worker's library notes: what left it, what became readable, what the handler took, and when it waits."""

from __future__ import annotations

from typing import Final, NamedTuple


class Sent(NamedTuple):
    """A message to processes of the supervisor has left the process (S7)."""

    pid: str
    to: tuple[str, ...]
    topic: str
    size: int


class Readable(NamedTuple):
    """A message or an event has become readable (S14). `arrival` counts up within one process."""

    pid: str
    arrival: int
    what: str
    """`message`, `EXIT`, `LINK_DOWN`, `CANCEL` or `GROUP`."""
    sender: str
    topic: str
    """Of a message; those of a client are `ws.message` here, whatever the topic of its stream."""
    size: int
    ref: int
    """Of an EXIT or GROUP, else 0."""
    kind: str
    """The reason's kind, of EXIT, LINK_DOWN and `ws.leave`; of a resumed `ws.join`, `resumed`; of GROUP, `joined` or `left`."""
    epoch: int
    """The incarnation of the gateway, for what came on the data channel; else 0."""


class Taken(NamedTuple):
    """The handler has received it."""

    pid: str
    what: str
    sender: str
    topic: str


class Waiting(NamedTuple):
    """The handler wants to receive, and nothing is there. If this is the last that a live process has written, it has read
    all that came to it: unless it is stopped, it is waiting still."""

    pid: str
    stream: str
    """`inbox`, `events`, `both`, or `listen` for a topic of its own."""


class Listened(NamedTuple):
    """The handler listens to a topic: what is unread of it comes with the others no more."""

    pid: str
    topic: str


class Unlistened(NamedTuple):
    """What is unread of the topic is inbox again."""

    pid: str
    topic: str


WORKER_RECORDS: Final[tuple[type, ...]] = (
    Sent, Readable, Taken, Waiting, Listened, Unlistened,
)  # fmt: skip
