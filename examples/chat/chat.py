"""A chat room. It runs in an operating-system process of its own, and its guests may crash that in five ways."""

import ctypes
import json
import os
import signal
from collections.abc import Iterable
from typing import Any

from wsrelay.workers import http, process

HOST = "app:processes"
ROOM = "chat.room"
MAX_NAME = 40
MAX_TEXT = 2000

PATIENCE = 2.0
"""Seconds that the room may take to answer its watcher."""
PAUSE = 1.0
"""Seconds between an answer and the next question."""


def connect() -> None:
    """Bind a new connection to the room. Runs in a function worker, once for each connection."""
    name = (http.request().query("name") or "").strip()[:MAX_NAME] or "guest"
    http.response().relay_to(find_or_make_room(), metadata={"name": name})


def find_or_make_room() -> str:
    """Return the PID of the one room. To spawn with a name is one atomic step, so two callers cannot both win."""
    try:
        return str(process.spawn("app:room", HOST, name=ROOM))
    except process.AlreadyExists as error:
        return str(error.pid)


def room() -> object:
    """The room: it keeps who is here, and tells everybody what somebody says."""
    process.spawn("app:watcher", HOST, process.pid())
    guests: dict[str, str] = {}
    for message in process.inbox():
        payload = message.payload
        match message.topic:
            case "ws.join":
                guests[payload["client_pid"]] = payload["metadata"]["name"]
                tell(guests, kind="joined", name=payload["metadata"]["name"], guests=sorted(guests.values()))
                tell([payload["client_pid"]], kind="room", os_pid=os.getpid())
            case "ws.leave":
                name = guests.pop(payload["client_pid"], "somebody")
                tell(guests, kind="left", name=name, guests=sorted(guests.values()))
            case "ws.message":
                asked = read(payload["data"])
                if asked.get("kind") == "say":
                    tell(guests, kind="said", name=payload["metadata"]["name"], text=str(asked.get("text"))[:MAX_TEXT])
                elif asked.get("kind") == "crash":
                    if asked.get("how") == "return":
                        return "somebody asked the room to end"
                    crash(str(asked.get("how")))
            case "ask":
                process.send(message.sender, "answer", None)
    return None


def tell(clients: Iterable[str], /, **news: object) -> None:
    """Send `news` to some clients. To many it is still one message, packed once."""
    if clients:
        process.send(clients, "ws.send", {"type": "text", "data": json.dumps(news)})


def read(data: str | bytes) -> dict[str, Any]:
    """What a client wrote, or {} if it is not what our page writes."""
    try:
        asked = json.loads(data)
    except ValueError:
        return {}
    return asked if isinstance(asked, dict) else {}


def crash(how: str) -> None:
    """End this process in one of the ways that processes end."""
    match how:
        case "raise":
            raise RuntimeError("somebody pressed the button")
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            while True:
                pass


def watcher(watched: str) -> None:
    """Ask the room now and then whether it is there. A room that does not answer in time is terminated.

    A hung process is not dead, and the runtime does not guess: this is how an application decides.
    """
    process.monitor(watched)
    while True:
        process.send(watched, "ask", None)
        try:
            answer = process.receive(timeout=PATIENCE)
        except process.Timeout:
            process.terminate(watched)
            return
        if isinstance(answer, process.Exit):
            return
        try:
            process.receive(timeout=PAUSE)
        except process.Timeout:
            continue
        return  # only its end comes unasked
