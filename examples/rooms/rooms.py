"""A room for each name. One lobby takes every connection and transfers it to the process of its room.

The lobby is the only one that starts rooms, so there is never more than one of a name, and it needs no lock.
"""

import contextlib
import json
from collections.abc import Iterable

from wsrelay.workers import http, process
from wsrelay.workers.process import Exit, Message

HOST = "app:processes"
LOBBY = "rooms.lobby"
EMPTY_FOR = 60.0
"""Seconds after which an empty room ends."""


def connect() -> None:
    """Bind a new connection to the lobby, and say which room it wants."""
    request = http.request()
    with contextlib.suppress(process.AlreadyExists):
        process.spawn("app:lobby", HOST, name=LOBBY)
    metadata = {"room": request.param("room"), "user": request.query("user") or "guest"}
    http.response().relay_to(LOBBY, metadata=metadata)


def lobby() -> None:
    """Knows the process of every room, and is told when one ends."""
    rooms: dict[str, str] = {}
    waiting: dict[str, dict[str, str]] = {}
    while True:
        match process.receive():
            case Message(topic="ws.join", payload={"client_pid": client, "metadata": metadata}):
                waiting[client] = metadata
                hand_on(client, metadata, rooms)
            case Message(topic="ws.message", payload=payload):
                # Written before the transfer took effect: it belongs to the room all the same.
                process.send(room_of(payload["metadata"]["room"], rooms), "ws.message", payload)
            case Message(topic="ws.control_error", payload={"client_pid": client, "target_pid": target}):
                # The room ended in that very moment: we kept the connection, and try again with a new room.
                if client in waiting:
                    metadata = waiting[client]
                    if rooms.get(metadata["room"]) == target:
                        del rooms[metadata["room"]]
                    hand_on(client, metadata, rooms)
            case Message(topic="ws.leave", payload={"client_pid": client}):
                waiting.pop(client, None)
            case Exit(sender=ended):
                rooms = {name: pid for name, pid in rooms.items() if pid != ended}


def hand_on(client: str, metadata: dict[str, str], rooms: dict[str, str]) -> None:
    """Transfer a connection to its room: from one message to the next, without a gap."""
    target = room_of(metadata["room"], rooms)
    process.send(client, "ws.control", {"target_pid": target, "message_topic": "room.say", "metadata": metadata})


def room_of(name: str, rooms: dict[str, str]) -> str:
    """The process of the room, made if need be."""
    if name not in rooms:
        rooms[name], _ = process.spawn_monitored("app:room", HOST, name)
    return rooms[name]


def room(name: str) -> None:
    """One room. It ends when it has been empty for a minute; who comes in that very moment is closed with 1000."""
    members: dict[str, str] = {}
    while True:
        try:
            message = process.inbox().receive(timeout=None if members else EMPTY_FOR)
        except process.Timeout:
            return
        payload = message.payload
        match message.topic:
            case "ws.join":
                members[payload["client_pid"]] = payload["metadata"]["user"]
                tell(members, room=name, joined=payload["metadata"]["user"], members=sorted(members.values()))
            case "ws.leave":
                user = members.pop(payload["client_pid"])
                tell(members, room=name, left=user, members=sorted(members.values()))
            case "room.say" | "ws.message":
                # What the lobby passes on can be here before its author's own ws.join.
                tell(
                    {*members, payload["client_pid"]},
                    room=name,
                    user=payload["metadata"]["user"],
                    text=str(payload["data"]),
                )


def tell(members: Iterable[str], /, **news: object) -> None:
    """Send `news` to every member."""
    if members:
        process.send(members, "ws.send", {"type": "text", "data": json.dumps(news)})
