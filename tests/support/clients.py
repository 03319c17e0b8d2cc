"""What tests ask of a WebSocket client, beside what `websockets` offers."""

from __future__ import annotations

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

TIMEOUT = 15.0


def close_of(client: ClientConnection) -> tuple[int, str]:
    """Read to the end; return the code and reason of the server's close frame. Fails if there was none."""
    with pytest.raises(ConnectionClosed) as caught:
        _drain(client)
    received = caught.value.rcvd
    assert received is not None, "the line was cut without a close frame"
    return received.code, received.reason


def _drain(client: ClientConnection) -> None:
    while True:
        client.recv(timeout=TIMEOUT)
