"""A stopped process whose clients flood it, one client that reads nothing, and a thousand others."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

from ..load.frames import CLOSE, TEXT, FrameReader, connect
from ..load.generator import load
from ..peers.process import Server
from ..report.text import progress
from .observed import PARTS, MemoryWatch
from .profile import Profile
from .verdict import KIB, MIB, gateway_bound, latencies, supervisor_bound

PATIENCE = 90.0
SIZE = 16 * KIB
"""Of the messages that flood."""
DEAF_RATE = 100.0
TITLE = "a stopped process with flooding clients, a client that never reads, and echo clients"


def measure(server: Server, profile: Profile) -> dict[str, Any]:
    """Calm and disturbed phases in turns, calm ones first, and last where latencies are judged. Memory grows from the largest of
    the first one."""
    calm: list[dict[str, Any]] = []
    disturbed: list[dict[str, Any]] = []
    floods: list[int] = []
    deaf: list[int] = []
    before = after = dict.fromkeys(PARTS, 0)

    for number in range(profile.rounds):
        progress(f"pressure, round {number + 1}/{profile.rounds}")
        with MemoryWatch(server) as watch:
            calm.append(_echo(server, profile))
        if not number:  # before anything has been disturbed
            before = watch.largest
        with MemoryWatch(server) as watch, stopped_sink(server) as stop:
            flooded, silenced = _disturbed(server, profile, stop, disturbed)
        floods.append(flooded)
        deaf.append(silenced)
        after = {part: max(after[part], watch.largest[part]) for part in PARTS}
    if profile.timing:
        calm.append(_echo(server, profile))
    bounds = {
        "gateway": gateway_bound(
            inbound=MIB, outbound=MIB, message=64 * KIB, stopped_workers=1, their_clients=profile.flooding_clients + 1,
            slow_clients=1,
        ),
        "supervisor": supervisor_bound(mailbox=64 * MIB, stopped_workers_with_mail=0),
    }  # fmt: skip
    memory = {
        part: {
            "calm": before[part],
            "largest": after[part],
            "growth": after[part] - before[part],
            "bound": bounds[part],
        }
        for part in PARTS
    }
    found = {"memory": memory, "flooded bytes": floods, "closed though it never reads": deaf}
    return latencies(calm, disturbed) | found | {"calm": calm, "disturbed": disturbed}


def _echo(server: Server, profile: Profile) -> dict[str, Any]:
    return load(
        server, "opened", "/ws/echo", limit=profile.seconds + PATIENCE, size=64, connections=profile.clients_of_pressure,
        rate=profile.message_rate, seconds=profile.seconds, warm_up=0.5,
    )  # fmt: skip


def _disturbed(server: Server, profile: Profile, stop: Any, disturbed: list[dict[str, Any]]) -> tuple[int, int]:
    """One disturbed phase; returns the bytes that the flooding clients got rid of, and how often the deaf one was closed."""
    limit = profile.seconds + 2 * PATIENCE
    silenced: list[dict[str, Any]] = []

    def echo() -> None:
        disturbed.append(_echo(server, profile))

    def flooded() -> None:
        stop()
        silenced.append(load(server, "deaf", "/ws/echo", limit=limit, size=SIZE, rate=DEAF_RATE, while_loaded=echo))

    flood = load(
        server, "flood", "/ws/sink", limit=limit, size=SIZE, connections=profile.flooding_clients, while_loaded=flooded
    )
    return flood["messages"] * SIZE, silenced[0]["closed"]


@contextlib.contextmanager
def stopped_sink(server: Server) -> Iterator[Any]:
    """The process behind /ws/sink: yields what stops it. It is killed in the end, and its clients are told."""
    connection, rest = connect("127.0.0.1", server.port, "/ws/sink", PATIENCE)
    with connection:
        reader = FrameReader(connection, rest)
        opcode, payload = reader.read()
        if opcode != TEXT:
            raise RuntimeError(f"expected the number of the process, got {payload!r}")
        os_pid = int(payload)
        try:
            yield lambda: os.kill(os_pid, signal.SIGSTOP)
        finally:
            os.kill(os_pid, signal.SIGKILL)
        while True:
            opcode, payload = reader.read()
            if opcode == CLOSE:
                break
    if payload[:2] != (1011).to_bytes(2, "big"):
        raise RuntimeError(f"expected 1011 when the stopped process was killed, got {payload!r}")
