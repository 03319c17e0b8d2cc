"""Invariants 9, 10 and 14: deaths that were asked for, what they leave, and what clients see of an end."""

from __future__ import annotations

from collections.abc import Iterator

from ....kernel.wire import journal_records as j
from ..entry import Entry
from .world import CLEAN, Violation, World

_PROTOCOL = frozenset({1002, 1003, 1007, 1008, 1009})
_OF_A_TARGET = frozenset({1000, 1011, 1012})
_SENDABLE = frozenset({*range(1000, 1004), *range(1007, 1015)})
CODES: dict[str, frozenset[int]] = {
    "CancelRequested": frozenset({1001}),
    "ShutdownStarted": frozenset({1001, 1012}),
    "EndRequested": frozenset({1011}),
    "PingTimedOut": frozenset({1011}),
    "ClientTooSlow": frozenset({1013}),
    "TargetTooSlow": frozenset({1013}),
    "ProtocolFailed": _PROTOCOL,
    "RetargetRefused": _OF_A_TARGET,
    "RetargetGranted": _OF_A_TARGET,
    "HalfClosed": _PROTOCOL,
    "HoldExpired": frozenset({1012}),
    "ServiceGone": frozenset({1000, 1011}),
    "MessageReceived": frozenset({1013}),
}
"""S49, S56: what led to a Close frame, and the codes that it may have."""


def terminate_ends(world: World) -> list[Violation]:
    """9. `terminate` leads to EXIT within a bound, in every state. So does every kill that the table orders, and a `cancel`
    whose grace is over."""
    if not world.supervisor or world.supervisor_killed:
        return []
    stops = any(True for _ in world.of(j.Stopping))  # what it does last, it need not write down
    bound, now = world.limits.terminate, (world.supervisor if stops else world.entries)[-1].time
    workers: dict[int, str] = {}
    asked: dict[str, Entry] = {}
    found: list[Violation] = []
    for entry in world.supervisor:
        match entry.record:
            case j.Booted():
                workers.clear()
            case j.CancelAsked(pid=pid, grace=grace) if grace >= 0 and pid in world.spawned:
                found += _dies_by(world, pid, entry, grace / 1000 + bound, now)
            case j.Spawned(pid=pid, worker=worker):
                workers[worker] = pid
            case j.TerminateAsked(pid=pid) | j.KillOrdered(worker=0, pid=pid):
                asked.setdefault(pid, entry)
            case j.KillOrdered(worker=worker):
                asked.setdefault(workers.get(worker, ""), entry)
    for pid, entry in asked.items():
        if pid in world.spawned:
            found += _dies_by(world, pid, entry, bound, now)
    return found


def _dies_by(world: World, pid: str, asked: Entry, bound: float, now: float) -> Iterator[Violation]:
    death = world.died.get(pid)
    if death is None and now - asked.time > bound:
        yield Violation(9, f"{pid} is dead {bound:g} s after it was to be: it lives", (asked,))
    elif death is not None and death.time - asked.time > bound:
        yield Violation(9, f"{pid} dies within {bound:g} s of being told to", (asked, death))


def nothing_is_left(world: World) -> list[Violation]:
    """10. Death of worker, caller, gateway or supervisor leaves no descendant behind."""
    found = [Violation(10, f"nothing is left: {record.what}", (entry,)) for entry, record in world.of(j.LeftBehind)]
    stopped = {entry.os_pid for entry, _ in world.of(j.Stopping)}
    if world.supervisor_killed:
        return found
    children: dict[tuple[int, int], Entry] = {}
    for entry, record in world.of(j.ChildKnown, j.Reaped):
        if isinstance(record, j.Reaped):
            children.pop((entry.os_pid, record.os_pid), None)
        elif entry.os_pid in stopped:
            children[entry.os_pid, record.os_pid] = entry
    return found + [
        Violation(10, "every child is reaped when the runtime has stopped", (e,)) for e in children.values()
    ]


def close_codes_are_true(world: World) -> list[Violation]:
    """14. Every end that the server causes sends exactly the code of S49; a client sees 1006 only when the gateway or the
    line was lost."""
    found = []
    first: dict[str, Entry] = {}
    for entry, sent in world.of(j.CloseSent):
        if sent.connection in first:
            found.append(Violation(14, "one Close frame is sent", (first[sent.connection], entry)))
        first.setdefault(sent.connection, entry)
        allowed = _allowed(sent)
        if allowed is not None and sent.code not in allowed:
            expected = f"{sent.cause} {sent.kind}".strip() + f" closes with {', '.join(map(str, sorted(allowed)))}"
            found.append(Violation(14, f"{expected}, not with {sent.code}", (entry,)))
    for entry, closed in world.of(j.ClientClosed):
        connection = world.connection_of.get(closed.stream)
        lost = bool(world.lost_gateways) if connection is None else world.gateway_lost(connection)
        close = first.get(connection or "")
        if closed.stream in world.cut or (closed.code == 1006 and (lost or world.supervisor_killed)):
            continue
        if closed.code == 1006:
            evidence = (entry,) if close is None else (close, entry)
            found.append(
                Violation(14, f"client {closed.stream} sees a code: neither line nor gateway was lost", evidence)
            )
        elif close is not None and closed.code != (close.record[1] or 1005):
            found.append(
                Violation(14, f"client {closed.stream} sees {close.record[1]}, which was sent", (close, entry))
            )
    return found


def _allowed(sent: j.CloseSent) -> frozenset[int] | None:
    """The codes that S49 allows; None for any: those of the client's own Close, which is echoed."""
    if sent.cause == "CloseReceived":
        return None
    if sent.cause == "TargetEnded":
        return frozenset({1012 if sent.restarting else 1000 if sent.kind in CLEAN else 1011})
    if sent.cause == "CloseRequested" and 3000 <= sent.code <= 4999:
        return None
    allowed: frozenset[int] = CODES.get(sent.cause, _SENDABLE)
    return allowed
