"""Reasons keep to their caps, and can always travel (S18)."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsrelay.kernel.wire.codec import FrameDecoder, encode
from wsrelay.kernel.wire.messages import WORKER_TO_SUPERVISOR, ExitReport
from wsrelay.kernel.wire.reason import (
    LIMITS,
    MAX_DETAIL,
    MAX_ERROR,
    WireReason,
    make_reason,
    noproc,
    reason_of_exit_code,
    reason_of_signal,
)

ROOT = Path(__file__).parents[3]
ANY_TEXT = st.text(st.characters(), max_size=50) | st.builds(str.__mul__, st.text(min_size=1), st.integers(0, 20_000))
KINDS = st.sampled_from(
    ("normal", "cancelled", "exception", "exit:3", "signal:SIGKILL", "killed", "limit:oom", "ws_closed:1006")
)


@given(KINDS, ANY_TEXT, st.none() | st.binary(), st.none() | ANY_TEXT)
def test_reasons_keep_to_their_caps(kind: str, detail: str, value: bytes | None, error: str | None) -> None:
    reason = make_reason(kind, detail, value=value, error=error)
    assert reason.kind == kind
    assert reason.origin is None
    assert len(reason.detail) <= MAX_DETAIL
    assert (reason.error is None) == reason.clean == (kind in ("normal", "cancelled"))
    assert reason.value == (value if reason.clean else None)
    assert reason.error is None or len(reason.error) <= MAX_ERROR
    assert list(FrameDecoder(WORKER_TO_SUPERVISOR).decode(encode(ExitReport(reason)))) == [ExitReport(reason)]
    assert make_reason(reason.kind, reason.detail, value=reason.value, error=reason.error) == reason


def test_a_long_error_keeps_its_ends() -> None:
    error = make_reason("exception", error="first line\n" + "x" * 100_000 + "\nlast line").error
    assert error is not None
    assert error.startswith("first line\n")
    assert "truncated" in error
    assert error.endswith("\nlast line")


def test_text_that_is_no_utf8_travels() -> None:
    reason = make_reason("exception", "in a\udcff.py", error="File a\udcff.py")
    assert (reason.detail, reason.error) == ("in a?.py", "File a?.py")


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (noproc(), "noproc"),
        (reason_of_exit_code(0), "exit:0"),
        (reason_of_exit_code(255), "exit:255"),
        (reason_of_signal(signal.SIGSEGV), "signal:SIGSEGV"),
        (reason_of_signal(40), "signal:SIG40"),
    ],
)
def test_kinds(reason: WireReason, kind: str) -> None:
    assert reason.kind == kind
    assert not reason.clean
    assert reason.error
    assert str(reason).startswith(kind)


def test_every_limit_is_named_in_one_place() -> None:
    sources = [path for part in ("kernel", "gateway", "workers") for path in (ROOT / part).rglob("*.py")]
    assert len(sources) > 100
    spelt = {path.name for path in sources if re.search(r"\"limit:[a-z]", path.read_text())}
    assert spelt == {"reason.py"}, "a reason is a constant of kernel/wire/reason.py, or who counts reasons forgets it"


@pytest.mark.parametrize("page", ["docs/processes.md", "docs/operations.md"])
def test_every_limit_is_explained(page: str) -> None:
    assert set(re.findall(r"limit:[a-z]+", (ROOT / page).read_text())) == LIMITS
