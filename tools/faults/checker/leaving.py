"""Invariant 12 on the gateway's side: each bracket that it has opened it has closed, once and before the connection's end."""

from __future__ import annotations

from collections.abc import Iterator

from ....kernel.wire import journal_records as j
from ..entry import Entry
from .world import Violation, World


def brackets_are_closed_by_the_gateway(world: World) -> Iterator[Violation]:
    """Each `Joined` has one `Left`: before the next one of its connection, and before the connection is over. One without a
    reason says that no `ws.leave` was written, which only the target's death excuses (S45).

    The records of a connection are one process's, in its order: a gateway that is killed writes no end, and nothing is asked.
    """
    opened: dict[str, tuple[Entry, j.Joined]] = {}
    for entry, record in world.of(j.Joined, j.Left, j.ConnectionOver):
        bracket = opened.pop(record.connection, None)
        if isinstance(record, j.Left):
            yield from _left(world, bracket, entry, record)
            continue
        if bracket is not None:
            before, joined = bracket
            what = f"{record.connection} leaves {joined.target}, which it has joined, before it goes on or ends"
            yield Violation(12, what, (before, entry))
        if isinstance(record, j.Joined):
            opened[record.connection] = (entry, record)


def _left(world: World, bracket: tuple[Entry, j.Joined] | None, entry: Entry, left: j.Left) -> Iterator[Violation]:
    if bracket is None or bracket[1][1:] != (left.target, left.epoch):
        what = f"{left.connection} leaves only what it has joined, once: not {left.target}"
        yield Violation(12, what, (*((bracket[0],) if bracket else ()), entry))
    elif not left.reason and not _had_died(world, left.target, entry):
        what = f"`ws.leave` of {left.connection} is written to {left.target}, which has not died"
        yield Violation(12, what, (bracket[0], entry))


def _had_died(world: World, target: str, entry: Entry) -> bool:
    """Whether the target's death was committed before the entry; who killed the supervisor cannot know."""
    death = world.died.get(target)
    return world.supervisor_killed or (death is not None and death.time <= entry.time)
