"""Sends every message back to the client that it came from."""

from typing import Any

from wsrelay.workers import http, process

HOST = "app:processes"
SHARED = "echo.shared"


def connect() -> None:
    """Give this connection a process of its own."""
    http.response().relay_to(process.spawn("app:echo", HOST))


def connect_shared() -> None:
    """Give this connection to the one process that serves all. If that ends it is restarted, and the connection waits for it."""
    http.response().relay_to(SHARED, on_exit="hold")


def echo() -> None:
    """One client: ends when that client has left."""
    for message in process.inbox():
        if message.topic == "ws.message":
            send_back(message.payload)
        elif message.topic == "ws.leave":
            return


def shared() -> None:
    """Any number of clients. A service is asked to end when the runtime stops."""
    while True:
        match process.receive():
            case process.Message("ws.message", payload):
                send_back(payload)
            case process.Cancel():
                return


def send_back(payload: dict[str, Any]) -> None:
    """Answer a `ws.message` with its own content, text as text and bytes as bytes."""
    process.send(payload["client_pid"], "ws.send", {"type": payload["type"], "data": payload["data"]})
