"""A peer: in-process handlers under uvicorn, with h11. `/` echoes.

Takes the names of the event loop and of the WebSocket library, and `deflate` if it shall compress; prints its port.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Send every message back."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] != "websocket.disconnect":
        if (text := event.get("text")) is not None:
            await send({"type": "websocket.send", "text": text})
        else:
            await send({"type": "websocket.send", "bytes": event["bytes"]})


def main() -> None:
    """Serve on a free port."""
    loop, library, *more = sys.argv[1:]
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        echo,
        http="h11",
        ws=library,
        loop=loop,
        lifespan="off",
        log_level="warning",
        ws_per_message_deflate="deflate" in more,
        ws_ping_interval=None,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
