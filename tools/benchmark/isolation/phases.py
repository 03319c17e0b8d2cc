"""Calm and disturbed phases in turns: echo clients, alone and beside what disturbs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..load.generator import load
from ..peers.process import Server
from ..report.text import progress
from .profile import Profile
from .verdict import latencies

PATIENCE = 60.0
"""Seconds beyond what is asked for."""


def in_turns(name: str, server: Server, profile: Profile, disturb: Callable[[], None]) -> dict[str, Any]:
    """Calm phases first, and last where latencies are judged. Returns the phases of both kinds, and their latencies."""
    calm: list[dict[str, Any]] = []
    disturbed: list[dict[str, Any]] = []
    for number in range(profile.rounds):
        progress(f"{name}, round {number + 1}/{profile.rounds}")
        calm.append(phase(server, profile))
        disturbed.append(phase(server, profile, disturb))
    if profile.timing:
        calm.append(phase(server, profile))
    return latencies(calm, disturbed) | {"calm": calm, "disturbed": disturbed}


def phase(server: Server, profile: Profile, disturb: Callable[[], None] | None = None) -> dict[str, Any]:
    """Echo clients for as long as a phase lasts, disturbed by what takes as long. `forks` is how many tasks the machine has started
    meanwhile."""
    before = forks_so_far()
    found = load(
        server, "opened", "/ws/echo", limit=profile.seconds + PATIENCE, while_loaded=disturb, size=64,
        connections=profile.clients_of_crashes, rate=profile.message_rate, seconds=profile.seconds, warm_up=0.5,
    )  # fmt: skip
    return found | {"forks": forks_so_far() - before}


def forks_so_far(path: Path = Path("/proc/stat")) -> int:
    """Tasks that this machine has started since it booted, proc(5)."""
    [count] = (line.split()[1] for line in path.read_text().splitlines() if line.startswith("processes "))
    return int(count)
