"""What the process table wants done: small immutable values that the supervisor's shell performs, in order."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..wire.messages import Start
from ..wire.pid import Pid
from ..wire.reason import WireReason
from .service_states import State


class StartWorker(NamedTuple):
    """Make the channels of a new worker, have `host` fork it, and send `start` as its first frame."""

    worker: int
    host: str
    start: Start


class PrepareUpgrade(NamedTuple):
    """Make the channels for a worker's new code, answer `request` with HandOver, and from then on queue what is sent to the
    worker for the new code, behind Resume with `start` (S35). If the channels cannot be made say so, and nothing has happened."""

    worker: int
    request: int
    start: Start


class StartUpgraded(NamedTuple):
    """A worker's old code has ended: forget it, and have `host` fork the new one. `pid` and `entry` are for the log."""

    worker: int
    host: str
    pid: str
    entry: str


class SendToWorker(NamedTuple):
    """Queue a record on a worker's control channel."""

    worker: int
    record: tuple[Any, ...]


class SendToGateway(NamedTuple):
    """Queue a record on the gateway's control channel."""

    record: tuple[Any, ...]


class KillWorker(NamedTuple):
    """SIGKILL, now or as soon as the worker has an OS process. The reason is kept in the table."""

    worker: int


class SetTimer(NamedTuple):
    """Hand `event` back to the table at `deadline` (seconds on the clock that the table is given)."""

    deadline: float
    event: Timer


class GraceExpired(NamedTuple):
    """The grace of a CANCEL ran out (S29)."""

    pid: str


class PoolRefill(NamedTuple):
    """A host's function workers may be replaced again."""

    host: str


class ProbeDue(NamedTuple):
    """It is time to look whether a worker has given a sign of life (S17)."""

    worker: int


class StartOverdue(NamedTuple):
    """A service's process should have been forked by now (S39)."""

    pid: str


class RestartDue(NamedTuple):
    """A service's backoff is over (S38)."""

    service: str


class ExecutionOverdue(NamedTuple):
    """Who executes this process does not wait any longer (S34)."""

    pid: str


class ProcessEnded(NamedTuple):
    """For the log: a death has been committed."""

    pid: Pid
    entry: str
    reason: WireReason


class ServiceChanged(NamedTuple):
    """For the log: a service is in another state; `detail` says why (S37: `failed` is an error to show)."""

    service: str
    state: State
    detail: str


Timer = GraceExpired | PoolRefill | StartOverdue | RestartDue | ExecutionOverdue | ProbeDue
Effect = (
    StartWorker | PrepareUpgrade | StartUpgraded | SendToWorker | SendToGateway | KillWorker | SetTimer | ProcessEnded
    | ServiceChanged
)  # fmt: skip
