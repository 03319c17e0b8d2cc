"""For comparison: forks of a program that is no part of the runtime, beside the same clients.

What they cost is the machine's own. A hypervisor that keeps its guests' page tables itself, say, stops one processor for milliseconds
when processes come and go on another, whatever a scheduler does.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ..peers.process import Server
from ..report.text import progress
from . import outsider
from .crashes import PATIENCE, phase
from .layout import bound_to
from .profile import Profile
from .verdict import latencies

TITLE = "for comparison, a program outside the runtime that forks as often, and kills what it has forked"


@dataclass(frozen=True)
class Outside:
    """Where it runs, and how many processes it forks in a second."""

    processors: Collection[int]
    rate: float
    TITLE: str = TITLE

    def measure(self, server: Server, profile: Profile) -> dict[str, Any]:
        """Calm and disturbed phases in turns, calm ones first, and last where latencies are judged."""
        calm: list[dict[str, Any]] = []
        disturbed: list[dict[str, Any]] = []

        def disturb() -> None:
            command = [sys.executable, "-P", outsider.__file__, f"{self.rate}", f"{profile.seconds}"]
            with bound_to(self.processors):
                subprocess.run(command, check=True, timeout=profile.seconds + PATIENCE)

        for number in range(profile.rounds):
            progress(f"outside, round {number + 1}/{profile.rounds}")
            calm.append(phase(server, profile))
            disturbed.append(phase(server, profile, disturb))
        if profile.timing:
            calm.append(phase(server, profile))
        return latencies(calm, disturbed) | {"calm": calm, "disturbed": disturbed}
