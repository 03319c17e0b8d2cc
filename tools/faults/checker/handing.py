"""What a handler is handed of what is readable, for invariants 3 and 12: all of it, in order, and heartbeats one at a time."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Final

from ....kernel.wire import journal_records as j
from ..entry import Entry
from .world import Violation, World

_OF_A_CONNECTION: Final = frozenset({"ws.join", "ws.leave", "ws.heartbeat", "ws.control_error"})
"""Topics of the gateway's own; any other is that of the client's messages."""
_EVERYTHING: Final = frozenset({"inbox", "both"})
"""Streams of which who waits for them has all mail, but for what it listens to."""


class _Mail:
    """What one process has of one sender."""

    def __init__(self) -> None:
        self.readable: list[tuple[Entry, str]] = []
        self.taken: list[tuple[Entry, str]] = []


def mail_is_handed_over(world: World) -> list[Violation]:
    """What the handler takes of a sender is a prefix of what became readable: for each topic, if it listens to any, otherwise
    for all together. The whole of it when it waits, but for what it listens to."""
    mail: dict[tuple[str, str], _Mail] = defaultdict(_Mail)
    listens: dict[str, set[str]] = defaultdict(set)
    has_listened: set[str] = set()
    waits_for: dict[str, str] = {}
    for entry, record in world.of(j.Readable, j.Taken, j.Waiting, j.Listened, j.Unlistened, j.Upgraded):
        match record:
            case j.Readable(pid=pid, what="message", sender=sender, topic=topic):
                mail[pid, sender].readable.append((entry, topic))
            case j.Taken(pid=pid, what="message", sender=sender, topic=topic):
                known = topic if not _is_connection(sender) or topic in _OF_A_CONNECTION else "ws.message"
                mail[pid, sender].taken.append((entry, known))
            case j.Waiting(pid=pid, stream=stream):
                waits_for[pid] = stream
            case j.Listened(pid=pid, topic=topic):
                listens[pid].add(topic)
                has_listened.add(pid)
            case j.Unlistened(pid=pid, topic=topic):
                listens[pid].discard(topic)
            case j.Upgraded(pid=pid):  # what it listened to is inbox again
                listens[pid].clear()
    found = []
    for (pid, sender), both in mail.items():
        waits = pid in world.attentive and waits_for.get(pid) in _EVERYTHING
        topics = dict.fromkeys(topic for _, topic in [*both.readable, *both.taken]) if pid in has_listened else [""]
        for topic in topics:
            readable = [each for each in both.readable if topic in ("", each[1])]
            taken = [each for each in both.taken if topic in ("", each[1])]
            found += _compare(pid, sender, readable, taken, whole=waits and topic not in listens[pid])
    return found


def _compare(
    pid: str, sender: str, readable: list[tuple[Entry, str]], taken: list[tuple[Entry, str]], *, whole: bool
) -> list[Violation]:
    for index, (entry, topic) in enumerate(taken):
        expected = readable[index] if index < len(readable) else None
        if expected is None or expected[1] != topic:
            evidence = (entry,) if expected is None else (expected[0], entry)
            return [Violation(3, f"{pid} is handed what {sender} sent, in order: {topic} is not the next", evidence)]
    if whole and len(taken) < len(readable):
        evidence = (readable[len(taken)][0],)
        missing = len(readable) - len(taken)
        return [Violation(3, f"{pid} waits, so it was handed all of {sender}: {missing} are not", evidence)]
    return []


def _is_connection(pid: str) -> bool:
    """Whether the PID's owner is a gateway (S1)."""
    return pid.partition("|")[2].partition(".")[2].startswith("g")


def heartbeats_wait_alone(world: World) -> list[Violation]:
    """At most one heartbeat of a connection waits to be taken (S55)."""
    found = []
    waiting: Counter[tuple[str, str]] = Counter()
    for entry, record in world.of(j.Readable, j.Taken):
        if record.topic != "ws.heartbeat":
            continue
        key = (record.pid, record.sender)
        waiting[key] += 1 if isinstance(record, j.Readable) else -1
        if waiting[key] > 1:
            found.append(Violation(12, f"one heartbeat of {key[1]} waits for {key[0]}, not {waiting[key]}", (entry,)))
    return found
