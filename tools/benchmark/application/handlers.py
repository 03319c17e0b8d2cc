"""What the benchmark measures: handlers as a user would write them."""

import contextlib
import os

from wsrelay.workers import http, process

HOST = "app:processes"
SHARED = "benchmark.echo"
ROOM = "benchmark.room"


def connect_shared() -> None:
    """All connections to one echo process, which the runtime has started."""
    http.response().relay_to(SHARED, metadata={"user_id": "42"})


def connect_looked_up() -> None:
    """The same, and start it if there is none."""
    relay_to_named(SHARED, "app:echo")


def connect_broadcast() -> None:
    """All connections to one room."""
    relay_to_named(ROOM, "app:room")


def relay_to_named(name: str, entry: str) -> None:
    """Relay to the process of this name, and start it if there is none."""
    if process.registry.lookup(name) is None:
        with contextlib.suppress(process.AlreadyExists):
            process.spawn(entry, HOST, name=name)
    http.response().relay_to(name, metadata={"user_id": "42"})


def connect_own() -> None:
    """Every connection to an echo process of its own."""
    http.response().relay_to(process.spawn("app:echo_own", HOST), metadata={"user_id": "42"})


def connect_victim() -> None:
    """Every connection to a process that waits to be killed."""
    http.response().relay_to(process.spawn("app:victim", HOST))


def echo() -> None:
    """Send every message back."""
    for message in process.inbox():
        if message.topic == "ws.message":
            payload = message.payload
            process.send(payload["client_pid"], "ws.send", {"type": payload["type"], "data": payload["data"]})


def echo_own() -> None:
    """Send every message back, until the client has gone."""
    for message in process.inbox():
        match message.topic:
            case "ws.message":
                payload = message.payload
                process.send(payload["client_pid"], "ws.send", {"type": payload["type"], "data": payload["data"]})
            case "ws.leave":
                return


def room() -> None:
    """Send every message to all who are here."""
    clients: set[str] = set()
    for message in process.inbox():
        match message.topic:
            case "ws.message":
                process.send(clients, "ws.send", {"type": "text", "data": message.payload["data"]})
            case "ws.join":
                clients.add(message.payload["client_pid"])
            case "ws.leave":
                clients.discard(message.payload["client_pid"])


def victim() -> None:
    """Tell the client which process of the operating system this is."""
    for message in process.inbox():
        if message.topic == "ws.join":
            process.send(message.payload["client_pid"], "ws.send", {"type": "text", "data": str(os.getpid())})
