"""Processes that go over a limit of their host, one after the other, and clients of a process in another host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..peers.process import Server
from .asking import ask
from .phases import PATIENCE, in_turns
from .profile import Profile


@dataclass(frozen=True)
class Excess:
    """One way to use too much."""

    what: str
    """As the application calls it."""
    reason: str
    """What who watches is told at the end of each."""
    deed: str
    habit: str
    """The same of one that does it."""

    @property
    def TITLE(self) -> str:
        """What is measured."""
        return f"processes in one host that {self.deed}, one after the other; echo clients of a process in another"

    def measure(self, server: Server, profile: Profile) -> dict[str, Any]:
        """Phases in turns, and how those who use too much have ended."""
        ends: list[dict[str, Any]] = []

        def exceed() -> None:
            asked = {"what": self.what, "seconds": profile.seconds}
            ends.append(ask(server, "/ws/excess", asked, profile.seconds + PATIENCE))

        found = in_turns(self.what, server, profile, exceed)
        return found | {"ends": ends, "expected reason": self.reason}


EXCESSES = {
    each.what: each
    for each in (
        Excess("memory", "limit:oom", "eat memory", "eats memory"),
        Excess("processes", "limit:processes", "fork without end", "forks without end"),
        Excess("disk", "limit:disk", "fill their temporary folder", "fills its temporary folder"),
        Excess("cpu", "limit:cpu", "burn CPU", "burns CPU"),
    )
}
