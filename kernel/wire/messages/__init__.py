"""Every message of the runtime, on every channel: the wire contract.

Owns the records, their tags, and which record may travel which way: one module for each kind of channel. A frame is the msgpack array `[tag, field, …]` with
the fields in the order of the record. Payloads that only users read (arguments, payloads, metadata, returned values) are
opaque `bin`: packed by the sender's library, unpacked by the reader's, never in between. A tag is never reused.

The page `docs/wire.md` is rendered from this file; a test holds the two together. Records are named tuples and not
dataclasses because they are made for every message: a named tuple packs as the array that it is.
"""

# ruff: noqa: F403, F405 — this is the index of the records: it exports all of them

from __future__ import annotations

from typing import Final

from .data import *
from .gateway import *
from .host import *
from .mark import *
from .worker import *

MAX_FRAME: Final = 17 << 20
"""Bytes of one frame's largest string: a WebSocket message of 16 MiB and its envelope. A library refuses to send more (LimitExceeded)."""

DIRECTIONS: Final[dict[str, dict[int, type]]] = {
    "worker → supervisor (control)": WORKER_TO_SUPERVISOR,
    "supervisor → worker (control)": SUPERVISOR_TO_WORKER,
    "gateway → supervisor (control)": GATEWAY_TO_SUPERVISOR,
    "supervisor → gateway (control)": SUPERVISOR_TO_GATEWAY,
    "worker → gateway (data)": WORKER_TO_GATEWAY,
    "gateway → worker (data)": GATEWAY_TO_WORKER,
    "supervisor → host": SUPERVISOR_TO_HOST,
    "host → supervisor": HOST_TO_SUPERVISOR,
}

CARRIES_DESCRIPTOR: Final = frozenset({OpenData, Listener, OpenWorker, Fork, HandOver, Resume})
"""Records whose frame comes with exactly one descriptor (SCM_RIGHTS); all others come with none."""

RESERVED_TOPICS: Final = frozenset({"ws.join", "ws.leave", "ws.heartbeat"})
"""Topics that only the gateway speaks on (S9), besides all that start with `@`."""

MAX_TOPIC: Final = 256
"""Characters of a topic."""


def topic_is_reserved(topic: str) -> bool:
    """Whether a process may not send on this topic (S9)."""
    return topic.startswith("@") or topic in RESERVED_TOPICS
