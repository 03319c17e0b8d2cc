"""What the benchmark measures: handlers as a user would write them."""

import os

from wsrelay.workers import http, process

HOST = "app:processes"
SHARED = "benchmark.echo"


def connect_shared() -> None:
    """All connections to one echo process."""
    if process.registry.lookup(SHARED) is None:
        pid = process.spawn("app:echo", HOST)
        try:
            process.registry.register(SHARED, pid)
        except process.AlreadyExists:
            process.terminate(pid)
    http.response().relay_to(SHARED, metadata={"user_id": "42"})


def connect_own() -> None:
    """Every connection to an echo process of its own."""
    http.response().relay_to(process.spawn("app:echo", HOST), metadata={"user_id": "42"})


def connect_victim() -> None:
    """Every connection to a process that waits to be killed."""
    http.response().relay_to(process.spawn("app:victim", HOST))


def echo() -> None:
    """Send every message back."""
    for message in process.inbox():
        if message.topic == "ws.message":
            payload = message.payload
            process.send(payload["client_pid"], "ws.send", {"type": payload["type"], "data": payload["data"]})


def victim() -> None:
    """Tell the client which process of the operating system this is."""
    for message in process.inbox():
        if message.topic == "ws.join":
            process.send(message.payload["client_pid"], "ws.send", {"type": "text", "data": str(os.getpid())})
