"""Why a process ended (S18), as it travels.

The returned value stays packed here: only the library of the process that reads it unpacks it.
"""

from __future__ import annotations

import signal
from typing import NamedTuple

MAX_DETAIL = 1024
"""Characters of `detail`."""
MAX_ERROR = 8192
"""Characters of `error`: a traceback is cut in its middle to fit."""
MAX_VALUE = 1 << 20
"""Bytes of a packed returned value."""

NORMAL = "normal"
CANCELLED = "cancelled"
EXCEPTION = "exception"
KILLED = "killed"
NOPROC = "noproc"
NOCONNECTION = "noconnection"
PROTOCOL = "protocol"
LIMIT_OOM = "limit:oom"
LIMIT_CPU = "limit:cpu"
LIMIT_LIVENESS = "limit:liveness"
LIMIT_MAILBOX = "limit:mailbox"
LIMIT_PROCESSES = "limit:processes"
LIMIT_DISK = "limit:disk"
LIMITS = frozenset({LIMIT_OOM, LIMIT_CPU, LIMIT_LIVENESS, LIMIT_MAILBOX, LIMIT_PROCESSES, LIMIT_DISK})
"""Every limit that ends a process."""

_CLEAN = frozenset({NORMAL, CANCELLED})


class WireReason(NamedTuple):
    """One immutable reason, the same for all observers (S12).

    `kind` is spelt as in the table of S18 (`exit:3`, `signal:SIGKILL`, `limit:oom`, `ws_closed:1006`). `detail` is one
    line for people. `value` is the returned value, packed, of a clean exit. `error` is the traceback or a description,
    None exactly when the exit was clean. `origin` is the PID whose death came down a link, None for a death of one's own.
    """

    kind: str
    detail: str = ""
    value: bytes | None = None
    error: str | None = None
    origin: str | None = None

    @property
    def clean(self) -> bool:
        """Whether the exit propagates nothing (S25)."""
        return self.kind in _CLEAN

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


def make_reason(kind: str, detail: str = "", *, value: bytes | None = None, error: str | None = None) -> WireReason:
    """Build a reason within its size caps; an abnormal one gets an `error` if none is given.

    Text that is no UTF-8 (lone surrogates, from file names in a traceback) is made so: a reason must always travel.
    """
    detail = _encodable(detail[:MAX_DETAIL])
    if kind in _CLEAN:
        return WireReason(kind, detail, value, None)
    if error is None:
        error = f"{kind}: {detail}" if detail else kind
    if len(error) > MAX_ERROR:
        half = MAX_ERROR // 2 - 20
        error = f"{error[:half]}\n… (truncated) …\n{error[-half:]}"
    return WireReason(kind, detail, None, _encodable(error))


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def noproc() -> WireReason:
    """The reason of a process that was unknown or already dead when the relation was made (S20, S24)."""
    return make_reason(NOPROC, "no such process, or it had already ended")


def reason_of_exit_code(code: int, detail: str = "") -> WireReason:
    """The reason of a process that ended with an exit code and without a report of its own."""
    return make_reason(f"exit:{code}", detail)


def reason_of_signal(number: int) -> WireReason:
    """The reason of a process that a signal ended, which the runtime did not send."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"SIG{number}"
    return make_reason(f"signal:{name}")
