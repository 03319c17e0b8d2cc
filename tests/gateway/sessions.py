"""Sessions for tests, and what is to be seen of their effects."""

from __future__ import annotations

from typing import Any

from wsrelay.gateway.core import session_events as e
from wsrelay.gateway.core.holding import MESSAGE_OVERHEAD
from wsrelay.gateway.core.session import Session
from wsrelay.gateway.core.session_events import Stream, Target
from wsrelay.kernel.wire import messages as m

PID = "{node@app:gateway|00000000000000aa.g1.1}"
OLD, NEW = Target("old", 1), Target("new", 2)
BOUND = 3 * (MESSAGE_OVERHEAD + 2)
"""Bytes of a hold: three messages of two bytes."""


def opened(heartbeat: float = 0.0) -> Session:
    session = Session(1, PID, OLD, Stream("ws.message", b"\x80", heartbeat))
    effects = session.handle(e.Opened(5.0))
    assert effects == [e.SendToWorker(1, m.Join(1, PID, "ws.message", b"\x80", False)), e.SetHeartbeat(heartbeat)]
    return session


def control(sender: Target = OLD, target: str = "new", **fields: Any) -> e.ControlRequested:
    return e.ControlRequested(sender, target, **{"topic": None, "metadata": None, "heartbeat": None, **fields})


def closes(effects: list[e.Effect]) -> list[tuple[int | None, str]]:
    return [(effect.code, effect.reason) for effect in effects if isinstance(effect, e.SendClose)]


def ends(effects: list[e.Effect]) -> list[str]:
    return [effect.reason.kind for effect in effects if isinstance(effect, e.ReportEnd)]


def to_workers(effects: list[e.Effect]) -> list[tuple[int, Any]]:
    return [(effect.worker, effect.record) for effect in effects if isinstance(effect, e.SendToWorker)]


def hand_over(session: Session) -> list[tuple[int, Any]]:
    """What the target gets of the backlog."""
    taken = []
    while session.backlog is not None:
        taken.append(session.take_backlog())
    return taken
