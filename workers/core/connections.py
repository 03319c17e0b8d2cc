"""The connections whose target this process is: what was said once, at their join, and is part of every later payload.

Makes the payloads of the contract (the table of section 9 of the semantics) from the gateway's frames. Holds an entry from
Join to Leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...kernel.wire import messages as wire
from ...kernel.wire.messages import ClientMessage
from ...kernel.wire.pid import Pid
from .items import Message, make_message
from .packing import unpack
from .traces import Traces

_TOPICS: dict[type, str] = {
    wire.Join: "ws.join",
    wire.Leave: "ws.leave",
    wire.Heartbeat: "ws.heartbeat",
    wire.ControlError: "ws.control_error",
}


@dataclass(slots=True)
class Connection:
    """One connection from its join to its leave."""

    pid: Pid
    topic: str
    metadata: dict[Any, Any]


class Connections:
    """Serial to connection."""

    def __init__(self) -> None:
        self.joined: dict[int, Connection] = {}
        """Those that have joined and not left."""
        self.traces = Traces()

    def find(self, record: tuple[Any, ...]) -> Connection | None:
        """Return the connection that a frame of the gateway speaks of; None if it has not joined. Joins and leaves."""
        if isinstance(record, wire.Join):
            connection = Connection(Pid(record.pid), record.topic, _read_metadata(record.metadata))
            self.joined[record.connection] = connection
            if record.trace:
                self.traces.join(record.pid, record.trace)
            return connection
        if isinstance(record, wire.Leave):
            leaving = self.joined.pop(record.connection, None)
            if leaving is not None:
                self.traces.leave(leaving.pid)
            return leaving
        if isinstance(record, wire.ControlError):
            return Connection(Pid(record.pid), "", {})
        return self.joined.get(record[0])

    def end_all(self) -> list[tuple[Connection, wire.Leave]]:
        """Return the leave of every connection that has not left: their gateway is gone (S41)."""
        leaves = [(connection, wire.Leave(serial, "gateway_lost", None)) for serial, connection in self.joined.items()]
        for connection in self.joined.values():
            self.traces.leave(connection.pid)
        self.joined.clear()
        return leaves

    def __len__(self) -> int:
        return len(self.joined)


def topic_of(connection: Connection, record: tuple[Any, ...]) -> str:
    """Return the topic of what the handler receives for a frame of the gateway."""
    if isinstance(record, wire.ClientMessage):
        return connection.topic
    return _TOPICS[type(record)]


def message_of(connection: Connection, record: tuple[Any, ...]) -> Message:
    """Return what the handler receives for a frame of the gateway. Its metadata is a copy: each message has its own."""
    pid = connection.pid
    if type(record) is ClientMessage:
        data = record[1]
        kind = "text" if type(data) is str else "binary"
        content = {"client_pid": pid, "type": kind, "data": data, "metadata": connection.metadata.copy()}
        return make_message(connection.topic, content, pid)
    payload: dict[str, Any] = {"client_pid": pid}
    topic = topic_of(connection, record)
    if isinstance(record, wire.Leave):
        payload["reason"], payload["code"] = record.reason, record.code
    elif isinstance(record, wire.Heartbeat):
        payload["uptime"], payload["message_count"] = record.uptime, record.message_count
    elif isinstance(record, wire.ControlError):
        payload["target_pid"], payload["error"] = record.target, record.error
        return Message(topic, payload, pid)
    payload["metadata"] = connection.metadata.copy()
    if isinstance(record, wire.Join) and record.resumed:
        payload["resumed"] = True
    return Message(topic, payload, pid)


def _read_metadata(packed: bytes) -> dict[Any, Any]:
    try:
        metadata = unpack(packed) if packed else None
    except ValueError:
        metadata = None
    return metadata if isinstance(metadata, dict) else {}
