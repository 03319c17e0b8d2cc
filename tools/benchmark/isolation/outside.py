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
from . import outsider
from .layout import bound_to
from .phases import PATIENCE, in_turns
from .profile import Profile

TITLE = "for comparison, a program outside the runtime that forks as often, and kills what it has forked"


@dataclass(frozen=True)
class Outside:
    """Where it runs, and how many processes it forks in a second."""

    processors: Collection[int]
    rate: float
    TITLE: str = TITLE

    def measure(self, server: Server, profile: Profile) -> dict[str, Any]:
        """Phases in turns."""

        def disturb() -> None:
            command = [sys.executable, "-P", outsider.__file__, f"{self.rate}", f"{profile.seconds}"]
            with bound_to(self.processors):
                subprocess.run(command, check=True, timeout=profile.seconds + PATIENCE)

        return in_turns("outside", server, profile, disturb)
