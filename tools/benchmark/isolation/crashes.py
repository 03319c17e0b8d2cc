"""Many crashes in one host, and clients of a process in another."""

from __future__ import annotations

from typing import Any

from ..peers.process import Server
from .asking import ask
from .phases import PATIENCE, in_turns
from .profile import Profile

TITLE = "crashes in one host, echo clients of a process in another"


def measure(server: Server, profile: Profile) -> dict[str, Any]:
    """Phases in turns, and what the crashes were told as."""
    crashes: list[dict[str, Any]] = []

    def storm() -> None:
        """Have processes crash at this rate, and note what their watcher was told."""
        asked = {"rate": profile.crash_rate, "seconds": profile.seconds}
        told = ask(server, "/ws/storm", asked, profile.seconds + PATIENCE)
        crashes.append(told | {"wanted seconds": profile.seconds})

    return in_turns("crashes", server, profile, storm) | {"crashes": crashes}
