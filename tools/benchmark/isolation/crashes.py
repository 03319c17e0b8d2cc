"""Many crashes in one host, and clients of a process in another."""

from __future__ import annotations

import json
from typing import Any

from ..load.frames import TEXT, FrameReader, client_frame, connect
from ..load.generator import load
from ..peers.process import Server
from ..report.text import progress
from .profile import Profile
from .verdict import latencies

PATIENCE = 60.0
TITLE = "crashes in one host, echo clients of a process in another"


def measure(server: Server, profile: Profile) -> dict[str, Any]:
    """Calm and disturbed phases in turns, calm ones first and last."""
    calm: list[dict[str, Any]] = []
    disturbed: list[dict[str, Any]] = []
    crashes: list[dict[str, Any]] = []
    for number in range(profile.rounds):
        progress(f"crashes, round {number + 1}/{profile.rounds}")
        calm.append(_phase(server, profile, None))
        disturbed.append(_phase(server, profile, crashes))
    calm.append(_phase(server, profile, None))
    return latencies(calm, disturbed) | {"crashes": crashes, "calm": calm, "disturbed": disturbed}


def _phase(server: Server, profile: Profile, crashes: list[dict[str, Any]] | None) -> dict[str, Any]:
    def storm() -> None:
        if crashes is not None:
            crashes.append(crash(server, profile.crash_rate, profile.seconds))

    return load(
        server, "opened", "/ws/echo", limit=profile.seconds + PATIENCE, while_loaded=storm, size=64,
        connections=profile.clients_of_crashes, rate=profile.message_rate, seconds=profile.seconds, warm_up=0.5,
    )  # fmt: skip


def crash(server: Server, rate: float, seconds: float) -> dict[str, Any]:
    """Have processes crash at this rate; returns what their watcher was told."""
    connection, rest = connect("127.0.0.1", server.port, "/ws/storm", seconds + PATIENCE)
    with connection:
        asked = json.dumps({"rate": rate, "seconds": seconds}).encode()
        connection.sendall(client_frame(TEXT, asked, b"\1\2\3\4"))
        opcode, payload = FrameReader(connection, rest).read()
    if opcode != TEXT:
        raise RuntimeError(f"who makes the crashes ended with {payload!r}")
    answer: dict[str, Any] = json.loads(payload)
    return answer | {"wanted seconds": seconds}
