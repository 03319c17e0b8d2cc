"""A process of its own for each connection, which says back what it is told."""

from wsrelay.workers import http, process


def connect() -> None:
    http.response().relay_to(process.spawn("app:echo", "app:processes"))


def echo() -> None:
    for message in process.inbox():
        if message.topic == "ws.message":
            process.send(message.payload["client_pid"], "ws.send", {"data": message.payload["data"]})
        elif message.topic == "ws.leave":
            return
