"""Whether the runtime is ready: when it may say so to who waits for its start.

It is when all parts serve and every service that was to start has started. One that was given up keeps nobody waiting: it has
been said, and the others are of use. One that backs off is waited for, but not for ever (`PATIENCE`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .service_states import State

PATIENCE = 60.0
"""Seconds after which a runtime that serves is ready, though a service still does not run."""
_SETTLED = frozenset({State.RUNNING, State.FINISHED, State.FAILED})


def unsettled(services: Mapping[str, State], wanted: Iterable[str]) -> list[str]:
    """Return the ids of the `wanted` services that have not started yet, and have not been given up."""

    def settled(id: str) -> bool:
        return services[id] in _SETTLED

    blocked = any(state is State.FAILED for state in services.values())  # what requires it waits for ever (S39)
    return [id for id in wanted if not settled(id) and not (blocked and services[id] is State.WAITING)]


def summary(services: Mapping[str, State]) -> str:
    """Return how many services run, and which have failed, in a line."""
    running = sum(state in (State.RUNNING, State.FINISHED) for state in services.values())
    failed = [id for id, state in services.items() if state is State.FAILED]
    return f"{running} of {len(services)} services run" + (f", failed: {', '.join(failed)}" if failed else "")


def unready(parts: Mapping[str, bool], services: Mapping[str, State], wanted: Iterable[str], *, stopping: bool) -> str:
    """Return why nobody should be sent here now, in a line; empty if all parts serve and the `wanted` services run.

    Stricter than what ends a start: a service that backs off or was given up counts too."""
    if stopping:
        return "stopping"
    idle = [part for part, serves in parts.items() if not serves]
    if idle:
        return f"not serving: {', '.join(idle)}"
    down = [f"{id} ({services[id].value})" for id in wanted if services[id] not in (State.RUNNING, State.FINISHED)]
    return f"services that do not run: {', '.join(down)}" if down else ""
