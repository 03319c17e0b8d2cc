"""What the journals say about a runtime that runs: who lives, in which OS process, and whether something is under way.

Fed with entries as they come; asks nobody. Also decides which entries of a checked example the next one's check needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wsrelay.kernel.wire import journal_records as j
from wsrelay.tools.faults.entry import Entry

RUNNING = "running"
FAILED = "failed"
GATEWAY_STABLE = 2.5
"""Seconds of service after which the death of a gateway counts as the first again: the runtime's, and a little more."""


class Picture:
    """One runtime."""

    def __init__(self) -> None:
        self.live: dict[str, j.Spawned] = {}
        self.os_pid_of: dict[str, int] = {}
        """Of the living and the dead of this example."""
        self.supervisor = 0
        self.gateway = 0
        self.serving = False
        self.stable_from = 0.0
        """When, by the clock of the journals, a gateway may die and the next one is executed at once."""
        self.children: set[int] = set()
        self.workers: set[int] = set()
        self.signalled: set[int] = set()
        self.doomed: set[str] = set()
        """PIDs that have been told to die, and live."""
        self.services: dict[str, str] = {}
        self.service_pids: dict[str, str] = {}
        self._worker_numbers: dict[int, str] = {}
        self._gateways_lost = 0

    def take(self, entries: Iterable[Entry]) -> None:
        """Follow what is new."""
        for entry in entries:
            if entry.role == "supervisor":
                self._take(entry)

    def _take(self, entry: Entry) -> None:
        match entry.record:
            case j.Booted():
                self.__init__()  # type: ignore[misc]  # another boot begins with nothing
                self.supervisor = entry.os_pid
            case j.Spawned(pid=pid, service=service, worker=worker) as spawned:
                self.live[pid] = spawned
                self._worker_numbers[worker] = pid
                if service:
                    self.service_pids[service] = pid
            case j.Born(pid=pid, os_pid=os_pid):
                self.workers.add(os_pid)
                if pid:
                    self.os_pid_of[pid] = os_pid
            case j.Died(pid=pid):
                self.live.pop(pid, None)
                self.doomed.discard(pid)
            case j.TerminateAsked(pid=pid) | j.KillOrdered(worker=0, pid=pid) if pid in self.live:
                self.doomed.add(pid)
            case j.KillOrdered(worker=worker) if worker and self._worker_numbers.get(worker) in self.live:
                self.doomed.add(self._worker_numbers[worker])
            case j.ServiceChanged(service=service, state=state):
                self.services[service] = state
            case j.GatewayStarted(os_pid=os_pid):
                self.gateway, self.serving = os_pid, False
            case j.GatewayServes():
                self.serving = True
                if self._gateways_lost:
                    self.stable_from = entry.time + GATEWAY_STABLE
            case j.GatewayLost():
                self._gateways_lost += 1
                self.gateway, self.serving = 0, False
            case j.ChildKnown(os_pid=os_pid):
                self.children.add(os_pid)
            case j.Signalled(os_pid=os_pid):
                self.signalled.add(os_pid)
            case j.Reaped(os_pid=os_pid):
                for known in (self.children, self.workers, self.signalled):
                    known.discard(os_pid)

    def actors(self) -> list[str]:
        """The live actors that are no service's."""
        return [pid for pid, spawned in self.live.items() if spawned.kind == "actor" and not spawned.service]

    def hosts(self) -> list[int]:
        """The os_pids of the hosts."""
        return sorted(self.children - self.workers - self.signalled - {self.gateway})

    def under_way(self, spared: set[int]) -> str:
        """What goes on, to be waited for; empty if nothing. `spared` are processes that may be busy."""
        if self.doomed:
            return f"dying: {sorted(self.doomed)}"
        if changing := [name for name, state in self.services.items() if state != RUNNING]:
            return f"services: {changing}"
        if not self.serving:
            return "no gateway serves"
        for os_pid in {self.supervisor, *self.children} - spared:
            if (state := _state(os_pid)) not in "ST":
                return f"os process {os_pid}, {self._who(os_pid)}, is {state}"
        return ""

    def _who(self, os_pid: int) -> str:
        """The PID of a process that an OS process is, or its command line."""
        pids = [pid for pid, its in self.os_pid_of.items() if its == os_pid]
        try:
            with open(f"/proc/{os_pid}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            command = "which is gone"
        return ", ".join([*pids, command.strip()])

    def forget(self) -> None:
        """The example is over."""
        self.os_pid_of = {pid: os_pid for pid, os_pid in self.os_pid_of.items() if pid in self.live}


def _state(os_pid: int) -> str:
    """The letter that the kernel has for what the process does; X if there is none."""
    try:
        with open(f"/proc/{os_pid}/stat", "rb") as file:
            return chr(file.read().rpartition(b") ")[2][0])
    except OSError:
        return "X"


def parent_of(os_pid: int) -> int:
    """The parent's os_pid; 0 if the process is gone."""
    try:
        with open(f"/proc/{os_pid}/stat", "rb") as file:
            return int(file.read().rpartition(b") ")[2].split()[1])
    except OSError:
        return 0


def carried(entries: Sequence[Entry]) -> list[Entry]:
    """What the next example's check has to know of those before: what still lives, and the history of the services."""
    dead = {entry.record[0] for entry in entries if isinstance(entry.record, j.Died)}
    services = {entry.record[0] for entry in entries if isinstance(entry.record, j.Spawned) and entry.record.service}
    reaped: set[int] = set()
    kept = []
    for entry in reversed(entries):
        if _is_carried(entry.record, dead, services, reaped):
            if isinstance(entry.record, j.Died):  # whom it was linked to is forgotten
                entry = entry._replace(record=entry.record._replace(origin=""))
            kept.append(entry)
    return kept[::-1]


def _is_carried(record: tuple[object, ...], dead: set[str], services: set[str], reaped: set[int]) -> bool:
    match record:
        case j.Reaped(os_pid=os_pid):
            reaped.add(os_pid)
            return False
        case j.ChildKnown(os_pid=os_pid):
            known = os_pid not in reaped
            reaped.discard(os_pid)
            return known
        case j.Spawned(pid=pid):
            return pid in services or pid not in dead
        case j.Born(pid=pid):
            return bool(pid) and pid not in dead
        case j.Died(pid=pid):
            return pid in services
        case j.Named(pid=pid) | j.TrapSet(pid=pid) | j.GroupJoined(pid=pid):
            return pid not in dead
        case j.Booted() | j.ServiceConfigured() | j.ServiceChanged() | j.Stopping() | j.Bound():
            return True
        case j.Sample(phase="baseline"):
            return True
    return False
