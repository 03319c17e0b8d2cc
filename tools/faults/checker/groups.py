"""Groups and who watches them, for invariants 3 and 6: a snapshot, and then every change, with no gap (S33)."""

from __future__ import annotations

from collections import defaultdict

from ....kernel.wire import journal_records as j
from ..entry import Entry
from .world import Relations, Violation, World

_Watch = tuple[str, int]
"""Who watches, and the ref."""
_Changes = dict[str, list[tuple[bool, Entry]]]
"""Member to what became of its membership, in order. Not in the order of all: those who die at once leave at once."""


def watchers_see_the_group(world: World) -> list[Violation]:
    """The snapshot is the group, and what is told after it are its changes: all of them, to a watcher that lives and still
    watches. A change may be told before the journal has the death that it is of."""
    found: list[Violation] = []
    model = Relations()
    watched: dict[_Watch, str] = {}
    due: dict[_Watch, _Changes] = {}
    told: dict[_Watch, _Changes] = {}
    ended: set[_Watch] = set()
    for entry in world.supervisor:
        record = entry.record
        match record:
            case j.Booted():
                watched, due, told, ended = {}, {}, {}, set()
            case j.GroupWatched(watcher=watcher, ref=ref, group=group, pids=pids):
                watched[watcher, ref] = group
                due[watcher, ref], told[watcher, ref] = defaultdict(list), defaultdict(list)
                if set(pids) != set(model.members[group]):
                    expected = ", ".join(model.members[group]) or "nobody"
                    found.append(Violation(6, f"{watcher} is shown the members of {group}: {expected}", (entry,)))
            case j.GroupUnwatched(watcher=watcher, ref=ref):
                ended.add((watcher, ref))
            case j.GroupTold(watcher=watcher, ref=ref, pid=pid, joined=joined):
                if (watcher, ref) in watched:
                    told[watcher, ref][pid].append((joined, entry))
                else:
                    found.append(
                        Violation(6, f"{watcher} is told of a group that it does not watch, ref {ref}", (entry,))
                    )
            case j.GroupJoined(group=group, pid=pid) if pid not in model.members[group]:
                _note(due, watched, group, pid, True, entry)
            case j.GroupLeft(group=group, pid=pid, times=0) if pid in model.members[group]:
                _note(due, watched, group, pid, False, entry)
            case j.Died(pid=pid):
                ended |= {watch for watch in watched if watch[0] == pid}
                for group, members in model.members.items():
                    if pid in members:
                        _note(due, watched, group, pid, False, entry)
        model.take(record)
    for watch in () if world.supervisor_killed else watched:
        found += _compare(watch, due[watch], told[watch], whole=watch not in ended)
    return found


def _note(
    due: dict[_Watch, _Changes], watched: dict[_Watch, str], group: str, pid: str, joined: bool, entry: Entry
) -> None:
    for watch, name in watched.items():
        if name == group:
            due[watch][pid].append((joined, entry))


def _compare(watch: _Watch, due: _Changes, told: _Changes, *, whole: bool) -> list[Violation]:
    found = []
    watcher, ref = watch
    for pid in due.keys() | told.keys():
        expected, seen = [change for change, _ in due[pid]], [change for change, _ in told[pid]]
        if seen != expected[: len(seen)]:
            evidence = tuple(entry for _, entry in [*due[pid], *told[pid]][:6])
            found.append(
                Violation(6, f"{watcher} is told what becomes of {pid} in its group, ref {ref}: it is not so", evidence)
            )
        elif whole and len(seen) < len(expected):
            evidence = (due[pid][len(seen)][1],)
            found.append(Violation(6, f"{watcher} is told that {pid} joins or leaves, ref {ref}: it is not", evidence))
    return found


def changes_are_read_in_order(world: World) -> list[Violation]:
    """What is read of a watch is a prefix of what was told; the whole of it by one who waits and still watches."""
    found = []
    told: dict[_Watch, list[tuple[Entry, tuple[str, str]]]] = defaultdict(list)
    read: dict[_Watch, list[tuple[Entry, tuple[str, str]]]] = defaultdict(list)
    ended = {(record.watcher, record.ref) for _, record in world.of(j.GroupUnwatched)}
    for entry, record in world.of(j.GroupTold):
        told[record.watcher, record.ref].append((entry, (record.pid, "joined" if record.joined else "left")))
    for entry, arrived in world.of(j.Readable):
        if arrived.what == "GROUP":
            read[arrived.pid, arrived.ref].append((entry, (arrived.sender, arrived.kind)))
    for watch in told.keys() | read.keys():
        watcher, ref = watch
        expected, seen = told[watch], read[watch]
        for index, (entry, change) in enumerate(seen):
            if index >= len(expected) or expected[index][1] != change:
                what = f"{watcher} reads the changes that it was told, ref {ref}, in order: {change} is none of them"
                found.append(Violation(3, what, (*(one for one, _ in expected[index : index + 1]), entry)))
                break
        missing = expected[len(seen) :]
        if missing and watcher in world.attentive and watch not in ended and not world.supervisor_killed:
            what = f"{watcher} waits, so it has all changes that it was told, ref {ref}: {len(missing)} are missing"
            found.append(Violation(3, what, (missing[0][0],)))
    return found
