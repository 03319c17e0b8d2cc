"""Which close code a client gets when its target ends, and how a connection's own end is reported (S49, S51)."""

from __future__ import annotations

from typing import Final

from ...kernel.wire.reason import NORMAL, WireReason, make_reason
from .session_events import TargetEnded

_CLEAN_CODES: Final = frozenset({None, 1000, 1001})


def close_code(death: TargetEnded) -> int:
    """Return the code of S49 for a target's end."""
    return 1012 if death.restarting else 1000 if death.reason.clean else 1011


def exit_reason(code: int | None, completed: bool) -> WireReason:
    """S51: `normal` for a completed handshake with 1000, 1001 or no code; otherwise `ws_closed`."""
    if code not in _CLEAN_CODES:
        return make_reason(f"ws_closed:{code}")
    return make_reason(NORMAL) if completed else make_reason("ws_closed:1006")
