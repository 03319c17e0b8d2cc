"""Many connections, many workers."""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.runtime import actor, application, endpoint, running_runtime
from websockets.asyncio.client import ClientConnection, connect

APP = """
    from wsrelay.workers import http, process

    def join_one():
        pid = process.registry.lookup("echo")
        if pid is None:
            pid = process.spawn("app:echo", "app:processes")
            try:
                process.registry.register("echo", pid)
            except process.AlreadyExists as error:
                process.terminate(pid)
                pid = error.pid
        http.response().relay_to(pid)

    def join_own():
        http.response().relay_to(process.spawn("app:echo", "app:processes"))

    def echo():
        for message in process.inbox():
            if message.topic == "ws.message":
                process.send(message.payload["client_pid"], "ws.send", {"data": message.payload["data"]})
"""
ENTRIES = application(endpoint("/one", "join_one"), endpoint("/own", "join_own"), actor("echo"))
AT_ONCE = 50
"""Handshakes under way: below the queue of requests."""


async def talk(url: str, clients: int) -> None:
    """Connect `clients` times, and echo a message on each once all are connected."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def open_one() -> ClientConnection:
        async with gate:
            return await connect(url, open_timeout=60, ping_interval=None)

    connections = await asyncio.gather(*(open_one() for _ in range(clients)))

    async def echo(number: int, connection: ClientConnection) -> None:
        await connection.send(f"message {number}")
        assert await asyncio.wait_for(connection.recv(), 60) == f"message {number}"

    await asyncio.gather(*(echo(number, connection) for number, connection in enumerate(connections)))
    await asyncio.gather(*(connection.close() for connection in connections))


def test_a_thousand_connections_to_one_target(tmp_path: Path) -> None:
    with running_runtime(tmp_path, ENTRIES, {"app.py": APP}) as runtime:
        asyncio.run(talk(runtime.ws_url("/one"), 1000))
        assert "ERROR" not in runtime.log()


def test_two_hundred_workers_at_once(tmp_path: Path) -> None:
    with running_runtime(tmp_path, ENTRIES, {"app.py": APP}) as runtime:
        asyncio.run(talk(runtime.ws_url("/own"), 200))
        assert "ERROR" not in runtime.log()
