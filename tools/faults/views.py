"""What there is of a runtime at one moment, and what one moment has more than another.

Owns the records only: `runtime` makes them from what the supervisor and the operating system say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_DESCRIPTORS_OF_A_WORKER = {"supervisor": 2, "gateway": 1, "host": 0}
"""The supervisor has its control channel and its pidfd, the gateway its data channel; a host keeps nothing."""

_TOLD_OTHERWISE = frozenset({"processes", "workers", "descriptors", "gateway"})
"""Sizes of which more is told one by one, or is no more of anything."""
_BUSY = frozenset({"running", "disk-sleep", "zombie", "dead"})


@dataclass(frozen=True)
class ProcessView:
    """One OS process of a runtime."""

    kind: str
    """`guardian`, `supervisor`, `gateway`, `host`, `worker`, or `other`: newly forked, or started by user code."""
    os_pid: int
    pid: str = ""
    """The actor or invocation that a worker runs; empty for an idle function worker, and for what is no worker."""
    entry: str = ""
    """The id of its entry; for a host its own."""
    memory: int = 0
    """Resident bytes; pages that it shares with others count."""
    descriptors: int = 0
    state: str = ""
    """As psutil says it: `running`, `sleeping`, `stopped`, `zombie`, …"""
    monitors: int = 0
    links: int = 0
    names: int = 0
    groups: int = 0
    host: str = ""
    """The id of the host that a worker belongs to."""

    @property
    def is_function_worker(self) -> bool:
        """Whether it is a function worker that runs no invocation, or begins."""
        return self.kind == "worker" and not self.pid

    @property
    def waits_for_a_request(self) -> bool:
        """The same, and it waits."""
        return self.is_function_worker and self.state not in _BUSY

    def __str__(self) -> str:
        what = " ".join(filter(None, (self.kind, self.entry, self.pid)))
        return f"{what} (os process {self.os_pid}, {self.state})"


@dataclass(frozen=True)
class Snapshot:
    """One moment: the supervisor's tables, and every OS process."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    """`processes`, `workers`, `connections`, `names`, `monitors`, `links`, `memberships`, `watches`, `executions`, `timers`,
    `orphans`, and `gateway`: its incarnation, 0 while there is none that serves."""
    processes: tuple[ProcessView, ...] = ()

    @property
    def resting(self) -> bool:
        """Whether nothing is under way: no connection, no dying orphan, every process is known, and a gateway serves."""
        sizes = self.sizes
        busy = sizes["connections"] or sizes["orphans"] or sizes["executions"] or not sizes["gateway"]
        return not busy and sizes["workers"] == sum(process.kind == "worker" for process in self.processes)

    @property
    def idle(self) -> bool:
        """Whether every process waits for something, or is stopped: what is about to handle its mail, or to end, does not."""
        return all(process.state not in _BUSY for process in self.processes)

    def outline(self) -> object:
        """What stays equal while nothing happens."""
        return dict(self.sizes), sorted((each.kind, each.os_pid, each.pid, each.descriptors) for each in self.processes)

    def left_since(
        self, before: Snapshot, keeps: Collection[str] = (), rested: Mapping[int, ProcessView] = MappingProxyType({})
    ) -> list[str]:
        """What there is more than `before`, one line each. Processes of the entries `keeps`, and what they hold, may be, and
        descriptors of function workers of the hosts among them. `rested` is how each function worker was when it had first
        nothing to do, by os_pid."""
        new = self._new_since(before)
        kept = [process for process in new if process.kind == "worker" and process.entry in keeps]
        lines = [f"a process: {process}" for process in new if process not in kept]
        allowed = {
            "timers": len(kept),
            "names": sum(each.names for each in kept),
            "monitors": sum(each.monitors for each in kept),
            "links": sum(each.links for each in kept),
            "memberships": sum(each.groups for each in kept),
        }
        for name, size in self.sizes.items():
            more = size - before.sizes[name] - allowed.get(name, 0)
            if more > 0 and name not in _TOLD_OTHERWISE:
                lines.append(f"{name}: {more} more than at the start")
        return lines + self._descriptors_since(before) + self._kept_by_functions(rested, keeps)

    def _new_since(self, before: Snapshot) -> list[ProcessView]:
        """The processes beyond as many of their kind and entry as there were: one that was restarted is not new."""
        were, new = Counter((each.kind, each.entry) for each in before.processes), []
        for process in self.processes:
            were[process.kind, process.entry] -= 1
            if were[process.kind, process.entry] < 0:
                new.append(process)
        return new

    def _descriptors_since(self, before: Snapshot) -> list[str]:
        """Descriptors of the runtime's own processes beyond what its workers account for."""
        workers = max(0, self.sizes["workers"] - before.sizes["workers"])
        lines = []
        for kind, each in _DESCRIPTORS_OF_A_WORKER.items():
            now, then = self._descriptors(kind), before._descriptors(kind)
            if now - then > each * workers:
                lines.append(f"descriptors of the {kind}: {now}, at the start {then}")
        return lines

    def _kept_by_functions(self, rested: Mapping[int, ProcessView], keeps: Collection[str]) -> list[str]:
        """Descriptors that function workers have beyond what they had before their first request."""
        lines = []
        for now in self.processes:
            then = rested.get(now.os_pid)
            if (
                then is not None
                and now.waits_for_a_request
                and now.descriptors > then.descriptors
                and now.host not in keeps
            ):
                what = f"descriptors of a function worker of {now.host} (os process {now.os_pid})"
                lines.append(f"{what}: {now.descriptors}, when it first waited for a request {then.descriptors}")
        return lines

    def _descriptors(self, kind: str) -> int:
        return sum(process.descriptors for process in self.processes if process.kind == kind)
