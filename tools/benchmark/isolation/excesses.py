"""Processes that go over a limit of their host, one after the other, and clients of a process in another host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..peers.process import Server
from ..report.text import progress
from .asking import ask
from .crashes import PATIENCE, phase
from .profile import Profile
from .verdict import latencies


@dataclass(frozen=True)
class Excess:
    """One way to use too much."""

    what: str
    """As the application calls it."""
    reason: str
    """What who watches is told at the end of each."""
    deed: str

    @property
    def TITLE(self) -> str:
        """What is measured."""
        return f"processes in one host that {self.deed}, one after the other; echo clients of a process in another"

    def measure(self, server: Server, profile: Profile) -> dict[str, Any]:
        """Calm and disturbed phases in turns, calm ones first, and last where latencies are judged."""
        calm: list[dict[str, Any]] = []
        disturbed: list[dict[str, Any]] = []
        ends: list[dict[str, Any]] = []

        def exceed() -> None:
            asked = {"what": self.what, "seconds": profile.seconds}
            ends.append(ask(server, "/ws/excess", asked, profile.seconds + PATIENCE))

        for number in range(profile.rounds):
            progress(f"{self.what}, round {number + 1}/{profile.rounds}")
            calm.append(phase(server, profile))
            disturbed.append(phase(server, profile, exceed))
        if profile.timing:
            calm.append(phase(server, profile))
        found = {"ends": ends, "expected reason": self.reason, "calm": calm, "disturbed": disturbed}
        return latencies(calm, disturbed) | found


EXCESSES = {
    each.what: each
    for each in (
        Excess("memory", "limit:oom", "eat memory"),
        Excess("processes", "limit:processes", "fork without end"),
        Excess("disk", "limit:disk", "fill their temporary folder"),
        Excess("cpu", "limit:cpu", "burn CPU"),
    )
}
