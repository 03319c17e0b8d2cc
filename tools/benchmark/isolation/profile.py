"""How long and how much."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """What a run does. The defaults are what is promised: 50 crashes a second for 30 s, 1,000 clients."""

    rounds: int = 3
    seconds: float = 10.0
    """Of each phase."""
    crash_rate: float = 50.0
    message_rate: float = 500.0
    """Echoes a second, over all clients."""
    clients_of_crashes: int = 50
    clients_of_pressure: int = 999
    flooding_clients: int = 100
    timing: bool = True
    """Whether latencies are judged."""
    apart: tuple[str, ...] = ("crashes", "memory", "processes", "disk", "cpu")
    """The disturbances that are measured once more with what disturbs on a processor of its own."""
    services: tuple[str, ...] = ("memory", "processes", "disk", "cpu")
    """Those of a service that comes back, too."""


QUICK = Profile(
    rounds=1, seconds=1.0, crash_rate=10.0, message_rate=50.0, clients_of_crashes=5, clients_of_pressure=20,
    flooding_clients=10, timing=False, apart=("processes",), services=("disk",),
)  # fmt: skip
