"""What a process that is upgraded hands to its new code (S35): from the library's state to bytes, and back.

Everything that was read and not taken goes along as the raw records that it came as, in the order in which it came; so do the
bytes of a half-read frame of the data channel, and what the library remembers. What only the old code could use does not:
requests that nobody waits for any more, and which topics it listened to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgpack

from ...kernel.wire.codec import FrameDecoder, encode
from ...kernel.wire.messages import GATEWAY_TO_WORKER, SUPERVISOR_TO_WORKER
from ...kernel.wire.pid import Pid
from .connections import Connection
from .packing import pack, unpack
from .unread import Contents, Event

_LENGTH = 8
_RECORDS = SUPERVISOR_TO_WORKER | GATEWAY_TO_WORKER
_CHUNK = 1 << 20


class State(NamedTuple):
    """All that is handed over, beside the data channel itself."""

    contents: Contents
    last_request: int
    """The number of the last request, so that a new ref is never an old one (S19)."""
    unfinished: bytes
    """What was read of a frame of the data channel that is not complete."""
    cpu_used: int
    """Milliseconds."""
    coalescing: bool
    """Whether sends are collected (S7)."""


def dump(state: State) -> Iterator[bytes]:
    """Yield the state in pieces."""
    contents = state.contents
    connections = _Numbering()
    header = msgpack.packb(
        (
            state.last_request,
            state.unfinished,
            state.cpu_used,
            state.coalescing,
            contents.gateway,
            contents.frames,
            contents.data_ended,
            contents.arrivals,
            contents.cancel_received,
            tuple(contents.watches.items()),
            tuple(contents.observed_dead),
            tuple((arrival, size, connections.number(connection)) for arrival, size, connection, _ in contents.mail),
            tuple(event.arrival for event in contents.events),
            len(contents.held),
            tuple((serial, connections.number(connection)) for serial, connection in contents.joined.items()),
            tuple((one.pid, one.topic, pack(one.metadata, "metadata")) for one in connections.found),
            contents.traces,
        )
    )
    yield len(header).to_bytes(_LENGTH, "big")
    yield header
    chunk = bytearray()
    for record in _records(contents):
        chunk += encode(record)
        if len(chunk) >= _CHUNK:
            yield bytes(chunk)
            chunk.clear()
    yield bytes(chunk)


def load(data: bytes | memoryview) -> State:
    """Return the state. Raises an exception of some kind if these are not the bytes of one."""
    view = memoryview(data)
    start = _LENGTH + int.from_bytes(view[:_LENGTH], "big")
    (
        last_request, unfinished, cpu_used, coalescing, gateway, frames, data_ended, arrivals, cancel_received, watches, observed_dead,
        mail, events, held, joined, connections, traces,
    ) = msgpack.unpackb(view[_LENGTH:start], use_list=False)  # fmt: skip
    found = [Connection(Pid(pid), topic, unpack(metadata)) for pid, topic, metadata in connections]
    records: Iterator[Any] = iter(FrameDecoder(_RECORDS).decode(view[start:]))
    contents = Contents(
        gateway=gateway,
        frames=frames,
        data_ended=data_ended,
        arrivals=arrivals,
        cancel_received=cancel_received,
        watches=dict(watches),
        observed_dead=dict.fromkeys(observed_dead),
        mail=deque(
            (arrival, size, None if index is None else found[index], next(records)) for arrival, size, index in mail
        ),
        events=deque(Event(arrival, next(records)) for arrival in events),
        held=deque(next(records) for _ in range(held)),
        joined={serial: found[index] for serial, index in joined},
        traces=traces,
    )
    return State(contents, last_request, unfinished, cpu_used, coalescing)


def _records(contents: Contents) -> Iterator[tuple[Any, ...]]:
    for _, _, _, record in contents.mail:
        yield record
    for event in contents.events:
        yield event.record
    yield from contents.held


class _Numbering:
    """Numbers connections: several messages share one."""

    def __init__(self) -> None:
        self.found: list[Connection] = []
        self._numbers: dict[int, int] = {}

    def number(self, connection: Connection | None) -> int | None:
        if connection is None:
            return None
        known = self._numbers.setdefault(id(connection), len(self.found))
        if known == len(self.found):
            self.found.append(connection)
        return known
