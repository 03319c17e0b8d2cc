"""A peer's backend: WebSocket-over-HTTP as Pushpin speaks it. Every request carries events; each message is answered.

Takes its port.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def events(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The events of a request: a type and its content."""
    position = 0
    while position < len(body):
        end = body.index(b"\r\n", position)
        kind, _, length = body[position:end].partition(b" ")
        position = end + 2
        content = b""
        if length:
            size = int(length, 16)
            content = body[position : position + size]
            position += size + 2
        yield kind, content


async def answer(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Accept what opens, echo what is sent, close what closes."""
    body = b""
    while True:
        part = await receive()
        body += part.get("body", b"")
        if not part.get("more_body"):
            break
    made = []
    for kind, content in events(body):
        if kind == b"OPEN":
            made.append(b"OPEN\r\n")
        elif kind in (b"TEXT", b"BINARY", b"CLOSE"):
            made.append(kind + b" %x\r\n" % len(content) + content + b"\r\n")
    answer = b"".join(made)
    headers = [(b"content-type", b"application/websocket-events"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    uvicorn.run(
        answer,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        http="h11",
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
