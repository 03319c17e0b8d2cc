"""Invariants 6, 7 and 8: what finds a process, and what may be signalled."""

from __future__ import annotations

from ....kernel.wire import journal_records as j
from ..entry import Entry
from .groups import watchers_see_the_group
from .world import Relations, Violation, World


def the_dead_are_not_found(world: World) -> list[Violation]:
    """6. After an observed EXIT(p), no lookup or member list returns p."""
    found = []
    dead: dict[str, Entry] = {}
    for entry in world.supervisor:
        match entry.record:
            case j.Died(pid=pid):
                dead[pid] = entry
            case j.LookedUp(name=name, pid=pid) if pid in dead:
                found.append(Violation(6, f"the name {name} does not lead to {pid}, which is dead", (dead[pid], entry)))
            case j.MembersListed(group=group, pids=pids) | j.GroupWatched(group=group, pids=pids):
                found += [
                    Violation(6, f"{pid}, which is dead, is no member of {group}", (dead[pid], entry))
                    for pid in pids
                    if pid in dead
                ]
    return found + watchers_see_the_group(world)


def names_are_unique(world: World) -> list[Violation]:
    """7. Every name has at most one live PID; its history is linearizable.

    The supervisor's journal is in the order of its decisions: each answer must be that of one map.
    """
    found = []
    model = Relations()
    given: dict[str, Entry] = {}
    kept: set[str] = set()
    for entry in world.supervisor:
        match entry.record:
            case j.Named(name=name, pid=pid):
                holder = model.names.get(name, pid)
                if holder != pid:
                    found.append(Violation(7, f"{name} belongs to {holder} alone", (given[name], entry)))
                if pid not in model.live:
                    found.append(Violation(7, f"a name is given to the living: {pid} is not", (entry,)))
                given[name] = entry
            case j.ServiceConfigured(register=name):
                kept.add(name)
            case j.NameRefused(name=name, holder="") if name not in kept:
                found.append(
                    Violation(7, f"{name} is refused only if somebody has it, or a service keeps it", (entry,))
                )
            case j.NameRefused(name=name, holder=holder) if holder and model.names.get(name) != holder:
                found.append(Violation(7, f"{name} is refused only if it is {holder}'s", (entry,)))
            case j.Unnamed(name=name) if name not in model.names:
                found.append(Violation(7, f"{name} is taken away only from a holder", (entry,)))
            case j.LookedUp(name=name, pid=pid) if pid != model.names.get(name, ""):
                holder = model.names.get(name, "nobody")
                found.append(Violation(7, f"{name} leads to {holder}, not to {pid or 'nobody'}", (entry,)))
        model.take(entry.record)
    return found


def numbers_are_not_reused(world: World) -> list[Violation]:
    """8. No PID is reused; no process outside the runtime is ever signalled."""
    found = []
    spawned: dict[str, Entry] = {}
    for entry, record in world.of(j.Spawned):
        if record.pid in spawned:
            found.append(Violation(8, f"{record.pid} is one process's", (spawned[record.pid], entry)))
        spawned.setdefault(record.pid, entry)
    children: dict[tuple[int, int], Entry] = {}
    for entry, child in world.of(j.ChildKnown, j.Reaped, j.Signalled):
        key = (entry.os_pid, child.os_pid)
        if isinstance(child, j.ChildKnown):
            children[key] = entry
        elif isinstance(child, j.Reaped):
            children.pop(key, None)
        elif key not in children:
            found.append(Violation(8, f"{child.os_pid} is signalled only while it is an unreaped child", (entry,)))
    return found
