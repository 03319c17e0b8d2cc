"""From a wait status and a report to one reason: the table of S12 and S18."""

from __future__ import annotations

import signal

import pytest
from wsrelay.kernel.core.endings import WaitStatus, check_report, reason_of_death
from wsrelay.kernel.wire.errors import ProtocolViolation
from wsrelay.kernel.wire.reason import MAX_DETAIL, MAX_VALUE, WireReason, make_reason

KILLED = make_reason("killed", "terminated")
NORMAL = make_reason("normal", value=b"v")
CANCELLED = make_reason("cancelled")
ERROR = make_reason("exception", "ValueError: no", error="Traceback")
SIGKILL, SIGSEGV = WaitStatus(None, signal.SIGKILL), WaitStatus(None, signal.SIGSEGV)


@pytest.mark.parametrize(
    ("chosen", "report", "status", "kind"),
    [
        (None, NORMAL, WaitStatus(0), "normal"),
        (None, CANCELLED, WaitStatus(0), "cancelled"),
        (None, ERROR, WaitStatus(1), "exception"),
        (None, None, WaitStatus(0), "exit:0"),
        (None, None, WaitStatus(1), "exit:1"),
        (None, None, WaitStatus(3), "exit:3"),
        (None, NORMAL, WaitStatus(1), "exit:1"),
        (None, ERROR, WaitStatus(0), "exit:0"),
        (None, ERROR, WaitStatus(3), "exit:3"),
        (None, NORMAL, SIGSEGV, "signal:SIGSEGV"),
        (None, ERROR, SIGKILL, "signal:SIGKILL"),
        (None, None, SIGKILL, "signal:SIGKILL"),
        (None, None, WaitStatus(None, signal.SIGRTMIN + 1), "signal:SIG35"),
        (KILLED, None, SIGKILL, "killed"),
        (KILLED, NORMAL, SIGKILL, "killed"),
        (KILLED, NORMAL, WaitStatus(0), "normal"),
        (KILLED, ERROR, WaitStatus(1), "exception"),
        (KILLED, None, WaitStatus(0), "exit:0"),
        (KILLED, NORMAL, SIGSEGV, "signal:SIGSEGV"),
    ],
)
def test_reason(
    chosen: WireReason | None, report: WireReason | None, status: WaitStatus, kind: str
) -> None:  # S12, S18
    reason = reason_of_death(chosen, report, status)
    assert reason.kind == kind
    assert (reason.error is None) == reason.clean
    assert (reason.value is None) == (kind != "normal")


@pytest.mark.parametrize(
    "report",
    [
        *map(
            make_reason,
            ("killed", "noproc", "noconnection", "protocol", "signal:SIGKILL", "exit:0", "limit:oom", "", "x"),
        ),
        make_reason("exception")._replace(origin="{n@h|0011223344556677.s.1}"),
        make_reason("normal")._replace(origin=""),
        make_reason("normal", value=b"v" * (MAX_VALUE + 1)),
    ],
    ids=lambda report: f"{report.kind}, {report.origin}",
)
def test_a_spoofed_report(report: WireReason) -> None:  # S31
    with pytest.raises(ProtocolViolation):
        check_report(report)


def test_a_report_is_capped() -> None:  # S18
    report = check_report(WireReason("exception", "x" * 10_000, b"value", None, None))
    assert len(report.detail) == MAX_DETAIL
    assert report.value is None
    assert report.error
    assert check_report(WireReason("normal", "", b"v", "an error", None)).error is None
