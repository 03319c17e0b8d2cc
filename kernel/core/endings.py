"""From a wait status and a report to the one reason of a death (S12, S13, S18)."""

from __future__ import annotations

import signal
from typing import NamedTuple

from ..wire import reason as reasons
from ..wire.errors import ProtocolViolation
from ..wire.reason import WireReason, make_reason, reason_of_exit_code, reason_of_signal

_PLAIN = make_reason(reasons.NORMAL)
"""What nearly all handlers of HTTP report."""
_REPORTABLE = frozenset({reasons.NORMAL, reasons.CANCELLED, reasons.EXCEPTION, reasons.LIMIT_MAILBOX})


class WaitStatus(NamedTuple):
    """The kernel's word on an ended child: an exit code, or the signal that ended it (then the code is None)."""

    exit_code: int | None
    signal: int | None = None
    cpu_limit: int | None = None
    """If a signal ended it: its soft limit on CPU time in seconds, None if there was none or it is not known. The kernel
    raises it by one each time when it sends SIGXCPU."""
    out_of_memory: bool = False
    """Whether the kernel has killed for the memory of the child's own cgroup."""
    refused_forks: bool = False
    """Whether the child's own cgroup was full, and a fork was refused for it."""


def check_report(report: WireReason) -> WireReason:
    """Return a worker's exit report with its size caps applied. Raises ProtocolViolation for a reason that is not a
    worker's to report: only its handler's own end is (S31)."""
    if report == _PLAIN:
        return _PLAIN
    if report.kind not in _REPORTABLE:
        raise ProtocolViolation(f"an exit report of kind {report.kind[:40]!r}")
    if report.origin is not None:
        raise ProtocolViolation("an exit report with an origin: only a link passes a death on")
    if report.value is not None and len(report.value) > reasons.MAX_VALUE:
        raise ProtocolViolation("an exit report with an oversized value")
    return make_reason(report.kind, report.detail, value=report.value, error=report.error)


def reason_of_death(
    chosen: WireReason | None, report: WireReason | None, status: WaitStatus, limit: WireReason | None = None
) -> WireReason:
    """Decide the reason of a worker's death (S12).

    `chosen` is the reason for which the runtime sent SIGKILL, if it did; it stands if that is what ended the process.
    A complete report stands if the exit code agrees with it: 0 for a clean one, 1 for another. Else the status decides;
    `limit` is what it means if it is the kernel's way to enforce a limit. An exception may be such a way too: a refused fork is one
    to the handler, and whether it is killed for the limit before it has ended by that must not depend on who is faster.
    """
    if chosen is not None and status.signal == signal.SIGKILL:
        return chosen
    if report is not None and status.exit_code == (0 if report.clean else 1):
        return limit if limit is not None and report.kind == reasons.EXCEPTION else report
    if limit is not None:
        return limit
    if status.signal is not None:
        return reason_of_signal(status.signal)
    return reason_of_exit_code(status.exit_code or 0, "it reported no result" if not status.exit_code else "")
