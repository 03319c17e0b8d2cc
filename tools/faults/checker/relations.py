"""Invariants 1, 2 and 5: monitors, reasons and links."""

from __future__ import annotations

from collections import defaultdict

from ....kernel.wire import journal_records as j
from ..entry import Entry
from .world import CLEAN, Relations, Violation, World

NOPROC = "noproc"


def monitors_fire_once(world: World) -> list[Violation]:
    """1. EXITs fired = monitor refs active at death; none for removed refs."""
    found: list[Violation] = []
    model = Relations()
    owed: dict[tuple[str, int], tuple[str, Entry]] = {}
    told: set[tuple[str, int]] = set()
    for entry in world.supervisor:
        record = entry.record
        match record:
            case j.Booted():
                owed.clear()
            case j.MonitorMade(watcher=watcher, ref=ref, pid=pid) if pid not in model.live:
                owed[watcher, ref] = (pid, entry)
            case j.Died(pid=pid):
                owed.update(dict.fromkeys(model.watchers(pid), (pid, entry)))
            case j.ExitTold(watcher=watcher, ref=ref, pid=pid):
                due = owed.pop((watcher, ref), None)
                if due is None or due[0] != pid:
                    why = "it was told before" if (watcher, ref) in told else "no monitor with this ref was active"
                    found.append(Violation(1, f"no EXIT for {watcher}, ref {ref}: {why}", (entry,)))
                told.add((watcher, ref))
        model.take(record)
    if not world.supervisor_killed:
        for (watcher, ref), (pid, entry) in owed.items():
            found.append(Violation(1, f"EXIT of {pid} for {watcher}, ref {ref}: none was told", (entry,)))
    return found + _told_and_read(world)


def _told_and_read(world: World) -> list[Violation]:
    """What is read was told, once; what was told to a process that has read everything is read."""
    found = []
    told = {(record.watcher, record.ref): entry for entry, record in world.of(j.ExitTold)}
    removed = {(record.watcher, record.ref) for _, record in world.of(j.MonitorRemoved)}
    removed_pids = {(record.watcher, record.pid) for _, record in world.of(j.MonitorRemoved) if record.ref == 0}
    read: dict[tuple[str, int], Entry] = {}
    for entry, record in world.of(j.Readable):
        if record.what != "EXIT":
            continue
        key = (record.pid, record.ref)
        if key not in told:
            found.append(Violation(1, f"no EXIT at {record.pid}, ref {record.ref}: none was told", (entry,)))
        elif key in read:
            found.append(Violation(1, f"one EXIT at {record.pid}, ref {record.ref}: it came twice", (read[key], entry)))
        read[key] = entry
    for key, entry in () if world.supervisor_killed else told.items():
        pid = entry.record[2]
        if key not in read and key[0] in world.attentive and key not in removed and (key[0], pid) not in removed_pids:
            found.append(Violation(1, f"EXIT of {pid}, ref {key[1]}, is readable at {key[0]}: it is not", (entry,)))
    return found


def observers_agree(world: World) -> list[Violation]:
    """2. All observers of a death report one reason (`noproc` for late ones)."""
    found = []
    deaths: dict[str, Entry] = {}
    for entry, died in world.of(j.Died):
        if died.pid in deaths:
            found.append(Violation(2, f"{died.pid} dies once", (deaths[died.pid], entry)))
        deaths.setdefault(died.pid, entry)
    for entry, over in world.of(j.ConnectionOver):
        death = deaths.get(over.connection)
        if death is not None and death.record[1] != over.kind and not world.gateway_lost(over.connection):
            what = f"{over.connection} ended with {over.kind}, as its gateway says, not with {death.record[1]}"
            found.append(Violation(2, what, (entry, death)))
    late = {
        (record.watcher, record.ref)
        for entry, record in world.of(j.MonitorMade)
        if _is_after(entry, deaths.get(record.pid))
    }
    linked_late = {
        (record.one, record.other)
        for entry, record in world.of(j.LinkMade)
        if _is_after(entry, deaths.get(record.other))
    }
    for entry, record in world.of(j.ExitTold, j.LinkDownTold, j.Readable):
        match record:
            case j.ExitTold(watcher=observer, ref=ref, pid=pid, kind=kind):
                is_late = (observer, ref) in late
            case j.Readable(pid=observer, what="EXIT", ref=ref, sender=pid, kind=kind):
                is_late = (observer, ref) in late
            case (
                j.LinkDownTold(peer=observer, pid=pid, kind=kind)
                | j.Readable(pid=observer, what="LINK_DOWN", sender=pid, kind=kind)
            ):
                is_late = (observer, pid) in linked_late
            case _:
                continue
        death = deaths.get(pid)
        if kind == NOPROC and (is_late or death is None):
            continue
        if death is None:
            found.append(Violation(2, f"{pid} is told to be dead only when it has died", (entry,)))
        elif kind != death.record[1]:
            found.append(Violation(2, f"{pid} ended with {death.record[1]}: somebody is told {kind}", (death, entry)))
    return found


def _is_after(entry: Entry, death: Entry | None) -> bool:
    return death is None or (entry.time, entry.sequence) > (death.time, death.sequence)


def links_propagate(world: World) -> list[Violation]:
    """5. Dead set = closure of abnormal deaths over links through non-trappers."""
    found: list[Violation] = []
    model = Relations()
    owed: dict[tuple[str, str], Entry] = {}
    doomed: dict[str, Entry] = {}
    inherits: dict[str, set[tuple[str, str]]] = {}
    for entry in world.supervisor:
        record = entry.record
        match record:
            case j.Booted():
                owed.clear()
                doomed.clear()
            case j.LinkMade(one=one, other=other) if other not in model.live and one in model.traps:
                owed[one, other] = entry
            case j.Died(pid=pid, kind=kind, origin=origin):
                doomed.pop(pid, None)
                if origin and (kind, origin) not in inherits.get(pid, ()):
                    expected = f"{pid} dies of {kind} with the origin {origin} only if a peer that it did not trap did"
                    found.append(Violation(5, expected, (entry,)))
                if kind not in CLEAN:
                    for peer in model.links.get(pid, ()):
                        if peer in model.traps:
                            owed[peer, pid] = entry
                        else:
                            doomed.setdefault(peer, entry)
                            inherits.setdefault(peer, set()).add((kind, origin or pid))
            case j.LinkDownTold(peer=peer, pid=pid):
                if owed.pop((peer, pid), None) is None:
                    found.append(Violation(5, f"no LINK_DOWN of {pid} for {peer}: no link was broken", (entry,)))
        model.take(record)
    if not world.supervisor_killed:
        for (peer, pid), entry in owed.items():
            found.append(Violation(5, f"LINK_DOWN of {pid} for {peer}, which traps: none was told", (entry,)))
        for peer, entry in doomed.items():
            found.append(
                Violation(5, f"{peer} dies with {entry.record[0]}, to which it was linked: it lives", (entry,))
            )
    return found + _broken_links_are_read(world)


def _broken_links_are_read(world: World) -> list[Violation]:
    """Each LINK_DOWN that is read was told; what was told to a process that has read everything is read."""
    found = []
    told: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    read: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    removed = {(record.one, record.other) for _, record in world.of(j.LinkRemoved)}
    for entry, notice in world.of(j.LinkDownTold):
        told[notice.peer, notice.pid].append(entry)
    for entry, arrived in world.of(j.Readable):
        if arrived.what == "LINK_DOWN":
            read[arrived.pid, arrived.sender].append(entry)
    for key in told.keys() | read.keys():
        (peer, pid), expected, seen = key, told[key], read[key]
        if len(seen) > len(expected):
            what = f"no LINK_DOWN of {pid} is read at {peer} that was not told: {len(seen)}, not {len(expected)}"
            found.append(Violation(5, what, (*expected[-1:], seen[-1])))
        elif (
            len(seen) < len(expected) and peer in world.attentive and key not in removed and not world.supervisor_killed
        ):
            found.append(Violation(5, f"LINK_DOWN of {pid} is readable at {peer}: it is not", (expected[-1],)))
    return found
