"""What the journals of a run say, sorted for the checker: who was spawned, who died, who waits, and a model of the relations.

Pure. Decides no invariant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple, TypeVar, overload

from ....kernel.wire import journal_records as j
from ..entry import Entry

Record = TypeVar("Record", bound=tuple[Any, ...])

CLEAN = frozenset({"normal", "cancelled"})
"""Kinds of reasons that are clean (S18)."""
_WORKERS_OWN = (
    j.Sent,
    j.Readable,
    j.Taken,
    j.Waiting,
    j.Listened,
    j.Unlistened,
    j.NumberSent,
    j.NumberReceived,
    j.Note,
)


class Violation(NamedTuple):
    """A broken invariant."""

    invariant: int
    """Its number in SEMANTICS.md."""
    expected: str
    """What should have been, and what was instead."""
    evidence: tuple[Entry, ...]
    """The records that show it."""

    def __str__(self) -> str:
        return "\n    ".join([f"invariant {self.invariant}: {self.expected}", *map(str, self.evidence)])


class Limits(NamedTuple):
    """What the invariants leave to the deployment: bounds, in seconds unless said otherwise."""

    terminate: float = 10.0
    """From `terminate` to the death (invariant 9)."""
    latency_factor: float = 2.0
    """How much a disturbed p99 may be of an undisturbed one (invariant 11)."""
    latency_floor: float = 0.02
    """A p99 that is always good enough."""
    clock_slack: float = 0.05
    """By how much a timer may come early in the journal: a write takes a while (invariant 15)."""
    memory_growth: float = 1.25
    """How much memory may be at the end, of the baseline."""
    memory_slack: float = 8 << 20
    """Bytes beyond that."""


class World:
    """The merged journals of one run."""

    def __init__(self, entries: Iterable[Entry], limits: Limits = Limits()) -> None:  # noqa: B008  # it is immutable
        """`entries` are in the order of time, those of each process in its own order."""
        self.entries = list(entries)
        self.limits = limits

    @overload
    def of(self, kind: type[Record], /) -> Iterator[tuple[Entry, Record]]: ...

    @overload
    def of(self, *kinds: type[tuple[Any, ...]]) -> Iterator[tuple[Entry, Any]]: ...

    def of(self, *kinds: type[tuple[Any, ...]]) -> Iterator[tuple[Entry, Any]]:
        """Yield the entries of these kinds of records, and their records, in order."""
        if len(kinds) == 1:
            yield from self._by_kind.get(kinds[0], ())
            return
        for entry in self.entries:
            if isinstance(entry.record, kinds):
                yield entry, entry.record

    @cached_property
    def _by_kind(self) -> dict[type, list[tuple[Entry, Any]]]:
        found: dict[type, list[tuple[Entry, Any]]] = defaultdict(list)
        for entry in self.entries:
            found[type(entry.record)].append((entry, entry.record))
        return found

    @cached_property
    def supervisor(self) -> list[Entry]:
        """What supervisors wrote, in their order."""
        return [entry for entry in self.entries if entry.role == "supervisor"]

    @cached_property
    def spawned(self) -> dict[str, Entry]:
        """PID to where it was spawned, first."""
        found: dict[str, Entry] = {}
        for entry, record in self.of(j.Spawned):
            found.setdefault(record.pid, entry)
        return found

    @cached_property
    def died(self) -> dict[str, Entry]:
        """PID to where its death was committed, first."""
        found: dict[str, Entry] = {}
        for entry, record in self.of(j.Died):
            found.setdefault(record.pid, entry)
        return found

    def death(self, pid: str) -> j.Died | None:
        """The death of a process, None while it lives."""
        entry = self.died.get(pid)
        return entry.record if entry is not None and isinstance(entry.record, j.Died) else None

    def lives(self, pid: str) -> bool:
        """Whether the process was spawned and has not died."""
        return pid in self.spawned and pid not in self.died

    @cached_property
    def attentive(self) -> frozenset[str]:
        """Live processes whose last record says that they wait: they have read all that came to them."""
        last: dict[str, tuple[Any, ...]] = {}
        for _, record in self.of(*_WORKERS_OWN):
            last[record[0]] = record
        return frozenset(pid for pid, record in last.items() if isinstance(record, j.Waiting) and self.lives(pid))

    @cached_property
    def supervisor_killed(self) -> bool:
        """Whether the test says that it killed a supervisor: then the end of its journal says nothing."""
        return any("supervisor" in record.fault.lower() for _, record in self.of(j.FaultInjected))

    @cached_property
    def lost_gateways(self) -> frozenset[int]:
        """Incarnations of the gateway that died."""
        return frozenset(record.incarnation for _, record in self.of(j.GatewayLost))

    @cached_property
    def connection_of(self) -> dict[str, str]:
        """A client's name in the test to its connection's PID, as far as a handler has noted it."""
        return {record.stream: record.sender for _, record in self.of(j.NumberReceived) if record.stream}

    @cached_property
    def targets_of(self) -> dict[str, list[str]]:
        """Connection to its targets, in order."""
        found: dict[str, list[str]] = defaultdict(list)
        for _, record in self.of(j.Joined):
            found[record.connection].append(record.target)
        return found

    @cached_property
    def closed_by_server(self) -> frozenset[str]:
        """Connections that the gateway closed, and not their clients."""
        return frozenset(record.connection for _, record in self.of(j.CloseSent) if record.cause != "CloseReceived")

    @cached_property
    def cut(self) -> frozenset[str]:
        """Clients whose line the test cut."""
        return frozenset(record.stream for _, record in self.of(j.ClientCut))

    def gateway_lost(self, connection: str) -> bool:
        """Whether the gateway that owned this connection died."""
        owner = connection.partition("|")[2].partition(".")[2].partition(".")[0]
        return owner[:1] == "g" and owner[1:].isdigit() and int(owner[1:]) in self.lost_gateways


class Relations:
    """A model of the supervisor's tables, fed with its journal: made from requests and deaths, not from the tables."""

    def __init__(self) -> None:
        self.live: set[str] = set()
        self.monitors: dict[tuple[str, int], str] = {}
        """(watcher, ref) to the PID watched."""
        self.links: dict[str, set[str]] = defaultdict(set)
        self.traps: set[str] = set()
        self.names: dict[str, str] = {}
        self.members: dict[str, dict[str, int]] = defaultdict(dict)
        """Group to member to how often it has joined."""

    def take(self, record: tuple[Any, ...]) -> None:
        """Follow one record of the supervisor."""
        match record:
            case j.Booted():
                self.__init__()  # type: ignore[misc]  # another boot begins with nothing
            case j.Spawned(pid=pid):
                self.live.add(pid)
            case j.MonitorMade(watcher=watcher, ref=ref, pid=pid):
                if pid in self.live:
                    self.monitors[watcher, ref] = pid
            case j.MonitorRemoved(watcher=watcher, ref=0, pid=pid):
                for key in [key for key, target in self.monitors.items() if key[0] == watcher and target == pid]:
                    del self.monitors[key]
            case j.MonitorRemoved(watcher=watcher, ref=ref):
                self.monitors.pop((watcher, ref), None)
            case j.LinkMade(one=one, other=other):
                if one != other and other in self.live:
                    self.links[one].add(other)
                    self.links[other].add(one)
            case j.LinkRemoved(one=one, other=other):
                self.links[one].discard(other)
                self.links[other].discard(one)
            case j.TrapSet(pid=pid, trap=trap):
                (self.traps.add if trap else self.traps.discard)(pid)
            case j.Named(name=name, pid=pid):
                self.names[name] = pid
            case j.Unnamed(name=name):
                self.names.pop(name, None)
            case j.GroupJoined(group=group, pid=pid, times=count):
                self.members[group][pid] = count
            case j.GroupLeft(group=group, pid=pid, times=count):
                if count:
                    self.members[group][pid] = count
                else:
                    self.members[group].pop(pid, None)
            case j.Died(pid=pid):
                self._forget(pid)

    def watchers(self, pid: str) -> set[tuple[str, int]]:
        """Who monitors a process, itself excepted."""
        return {key for key, target in self.monitors.items() if target == pid and key[0] != pid}

    def _forget(self, pid: str) -> None:
        self.live.discard(pid)
        self.traps.discard(pid)
        for peer in self.links.pop(pid, ()):
            self.links[peer].discard(pid)
        self.monitors = {key: target for key, target in self.monitors.items() if pid not in (key[0], target)}
        self.names = {name: holder for name, holder in self.names.items() if holder != pid}
        for members in self.members.values():
            members.pop(pid, None)

    def sizes(self) -> dict[str, int]:
        """What the supervisor's own count of the same should be."""
        return {
            "processes": len(self.live),
            "names": len(self.names),
            "monitors": len(self.monitors),
            "links": sum(map(len, self.links.values())) // 2,
            "memberships": sum(map(len, self.members.values())),
        }
