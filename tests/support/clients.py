"""What tests ask of a WebSocket client, beside what `websockets` offers: the kit's."""

from __future__ import annotations

from websockets.sync.client import ClientConnection
from wsrelay.tools.faults.clients import TIMEOUT, close_of, end_of
from wsrelay.tools.faults.kinds import CUT

__all__ = ["TIMEOUT", "close_of", "line_is_lost"]


def line_is_lost(client: ClientConnection) -> bool:
    """Read to the end. Whether the line was cut, without a close frame."""
    return end_of(client)[0] == CUT
