"""An echo as a user would write it: what the suite sends, a worker process sends back."""

from wsrelay.workers import http, process


def connect() -> None:
    """Every connection to an echo process of its own."""
    http.response().relay_to(process.spawn("app:echo", "app:processes"), metadata={"user_id": "42"})


def echo() -> None:
    """Send every message back, with its type."""
    for message in process.inbox():
        match message.topic:
            case "ws.message":
                payload = message.payload
                process.send(payload["client_pid"], "ws.send", {"type": payload["type"], "data": payload["data"]})
            case "ws.leave":
                return
