"""What the gateway notes: brackets of each connection, Close frames, ends."""

from __future__ import annotations

from typing import Final, NamedTuple


class Joined(NamedTuple):
    """`ws.join` was written: the `epoch`-th target of this connection, from 1 (S45, S47)."""

    connection: str
    target: str
    epoch: int


class Left(NamedTuple):
    """That bracket is over: by `ws.leave`, or because the target died, then `reason` is empty. `messages` were accepted from
    the client for this target in this epoch."""

    connection: str
    target: str
    epoch: int
    messages: int
    reason: str


class CloseSent(NamedTuple):
    """A Close frame was sent (S49); `code` is 0 for an empty one."""

    connection: str
    code: int
    cause: str
    """What led to it: the name of the session's event, such as `TargetEnded`."""
    kind: str
    """For `TargetEnded`, the kind of the reason."""
    restarting: bool
    """For `TargetEnded`, whether the target will be restarted."""


class ConnectionOver(NamedTuple):
    """The connection is dead, for this reason (S51)."""

    connection: str
    kind: str


GATEWAY_RECORDS: Final[tuple[type, ...]] = (
    Joined, Left, CloseSent, ConnectionOver,
)  # fmt: skip
