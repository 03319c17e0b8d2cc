"""A peer: the library `websockets` on uvloop. `/` echoes, `/broadcast` sends every message to all. Prints its port."""

from __future__ import annotations

import asyncio
import signal

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

connected: set[ServerConnection] = set()


async def handle(connection: ServerConnection) -> None:
    """Echo, or broadcast."""
    if connection.request is None or connection.request.path != "/broadcast":
        async for message in connection:
            await connection.send(message)
        return
    connected.add(connection)
    try:
        async for message in connection:
            broadcast(connected, message)
    finally:
        connected.discard(connection)


async def main() -> None:
    """Serve on a free port until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=2048) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await stop.wait()
        server.close(close_connections=True)


if __name__ == "__main__":
    uvloop.run(main())
