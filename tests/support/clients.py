"""What tests ask of a WebSocket client, beside what `websockets` offers: the kit's."""

from __future__ import annotations

from wsrelay.tools.faults.clients import TIMEOUT, close_of

__all__ = ["TIMEOUT", "close_of"]
