"""Measurements that only a process of the runtime can make. A client asks for one, as JSON; the answer is JSON too."""

import json
import time
from collections.abc import Callable
from typing import Any

from wsrelay.workers import http, process

HOST = "app:processes"
WINDOW = 1000
"""Messages that are under way to the counter, at most about twice as many."""


def connect_lab() -> None:
    """Every connection to a laboratory of its own."""
    http.response().relay_to(process.spawn("app:lab", HOST))


def lab() -> None:
    """Do what the client asks for: `{"do": NAME, …}`."""
    for message in process.inbox():
        if message.topic == "ws.leave":
            return
        if message.topic == "ws.message":
            asked = json.loads(message.payload["data"])
            answer = TASKS[asked.pop("do")](**asked)
            text = {"type": "text", "data": json.dumps(answer)}
            process.send(message.payload["client_pid"], "ws.send", text)


def spawn_many(count: int) -> list[float]:
    """Seconds from each `spawn` to the moment when the new process has its first message in hand."""
    times = []
    for _ in range(count):
        start = time.monotonic()
        pid = process.spawn("app:answerer", HOST)
        process.send(pid, "question", process.pid())
        times.append(process.inbox().receive(timeout=20).payload - start)
    return times


def answerer() -> None:
    """Say when the first message came, on the clock that all processes share."""
    message = process.inbox().receive(timeout=20)
    process.send(message.payload, "answer", time.monotonic())


def send_many(count: int, size: int) -> float:
    """Seconds for `count` messages of `size` bytes to another worker."""
    pid = process.spawn("app:counter", HOST)
    payload = "x" * size
    process.send(pid, "begin", process.pid())
    process.inbox().receive(timeout=20)
    start = time.monotonic()
    for number in range(count // WINDOW):
        for _ in range(WINDOW):
            process.send(pid, "count", payload)
        if number:
            process.inbox().receive(timeout=20)
    process.inbox().receive(timeout=20)
    elapsed = time.monotonic() - start
    process.terminate(pid)
    return elapsed


def counter() -> None:
    """Count messages; say so after every `WINDOW` of them."""
    count = 0
    owner = ""
    for message in process.inbox():
        if message.topic == "begin":
            owner = message.payload
            process.send(owner, "ready")
            continue
        count += 1
        if count % WINDOW == 0:
            process.send(owner, "counted", count)


def spawn_idle(entry: str, count: int) -> int:
    """Have `count` processes wait for a message; each has answered once, so that all of it is loaded."""
    for _ in range(count):
        pid = process.spawn(f"app:{entry}", HOST)
        process.send(pid, "hello", process.pid())
        process.inbox().receive(timeout=20)
    return count


def idle_blocking() -> None:
    """Wait for messages."""
    for message in process.inbox():
        process.send(message.payload, "hello")


async def idle_asyncio() -> None:
    """Wait for messages on an event loop."""
    async for message in process.inbox():
        await process.send(message.payload, "hello")


TASKS: dict[str, Callable[..., Any]] = {"spawn": spawn_many, "send": send_many, "idle": spawn_idle}
