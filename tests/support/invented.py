"""Invented journals: a small runtime that exists only on paper, writes what a real one would, and does all of it right."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from wsrelay.kernel.wire import journal_records as j
from wsrelay.tools.faults.entry import Entry

OS_PIDS = {"supervisor": 10, "gateway": 11, "test": 12}


def pid(serial: int) -> str:
    """The PID of a process of the supervisor."""
    return f"{{n@app:h|0123456789abcdef.s.{serial}}}"


def connection(serial: int, incarnation: int = 1) -> str:
    """The PID of a connection."""
    return f"{{n@app:w|0123456789abcdef.g{incarnation}.{serial}}}"


class Paper:
    """Writes a good journal, operation by operation. What is not so good is made of it afterwards."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.time = 100.0
        self.monitors: dict[tuple[str, int], str] = {}
        self.links: dict[str, set[str]] = defaultdict(set)
        self.traps: set[str] = set()
        self.names: dict[str, str] = {}
        self.live: list[str] = []
        self.dead: list[str] = []
        self.arrivals: dict[str, int] = defaultdict(int)
        self.unread: dict[str, list[tuple[str, str]]] = defaultdict(list)
        """What came to each process: sender and topic."""
        self._serial = 0
        self._sequences: dict[int, int] = defaultdict(int)
        self.write("supervisor", j.Booted("n", "0123456789abcdef"))

    def write(self, role: str, record: tuple[Any, ...], os_pid: int | None = None) -> None:
        """Append a record, 10 ms after the last."""
        os_pid = OS_PIDS.get(role, 100) if os_pid is None else os_pid
        self.time += 0.01
        self._sequences[os_pid] += 1
        self.entries.append(Entry(self.time, role, os_pid, self._sequences[os_pid], record))

    def supervise(self, *records: tuple[Any, ...]) -> None:
        """The supervisor writes."""
        for record in records:
            self.write("supervisor", record)

    # --- processes ----------------------------------------------------------------------------------------------------

    def spawn(self, service: str = "") -> str:
        """An actor is born."""
        self._serial += 1
        made = pid(self._serial)
        self.live.append(made)
        os_pid = 1000 + self._serial
        self.supervise(
            j.Spawned(made, "actor", "app:a", self._serial, "", service),
            j.ChildKnown(os_pid),
            j.Born(self._serial, made, os_pid),
        )
        return made

    def readable(self, at: str, what: str, sender: str, **fields: Any) -> None:
        """Something arrives at a process."""
        self.arrivals[at] += 1
        given = {"topic": "", "size": 0, "ref": 0, "kind": "", "epoch": 0, **fields}
        if what == "message":
            self.unread[at].append((sender, given["topic"]))
        self.write("worker", j.Readable(at, self.arrivals[at], what, sender, **given), 100 + self.live.index(at))

    def waits(self, at: str, *, takes: bool = True) -> None:
        """A process has read all, and `takes` all."""
        os_pid = 100 + self.live.index(at)
        for sender, topic in self.unread.pop(at, []) if takes else []:
            self.write("worker", j.Taken(at, "message", sender, topic), os_pid)
        self.write("worker", j.Waiting(at, "both"), os_pid)

    def monitor(self, watcher: str, target: str, ref: int) -> None:
        """One watches another."""
        self.supervise(j.MonitorMade(watcher, ref, target))
        if target in self.live:
            self.monitors[watcher, ref] = target
        else:
            self._tell(watcher, ref, target, "noproc", "")

    def unmonitor(self, watcher: str, ref: int) -> None:
        """One watches no more."""
        self.monitors.pop((watcher, ref), None)
        self.supervise(j.MonitorRemoved(watcher, ref, ""))

    def link(self, one: str, other: str) -> None:
        """Two are linked."""
        if one == other or other in self.dead:
            return
        self.links[one].add(other)
        self.links[other].add(one)
        self.supervise(j.LinkMade(one, other))

    def trap(self, one: str) -> None:
        """One traps links."""
        self.traps.add(one)
        self.supervise(j.TrapSet(one, True))

    def die(self, one: str, kind: str, origin: str = "") -> None:
        """A death, and what follows."""
        self.live.remove(one)
        self.dead.append(one)
        self.supervise(j.Died(one, kind, origin))
        self.names = {name: holder for name, holder in self.names.items() if holder != one}
        for (watcher, ref), target in list(self.monitors.items()):
            if one in (watcher, target):
                del self.monitors[watcher, ref]
            if target == one and watcher != one:
                self._tell(watcher, ref, one, kind, origin)
        peers = self.links.pop(one, set())
        for peer in peers:
            self.links[peer].discard(one)
        os_pid = 1000 + int(one.rpartition(".")[2].rstrip("}"))
        killed = [peer for peer in peers if kind not in ("normal", "cancelled")]
        for peer in killed:
            if peer in self.traps:
                self.supervise(j.LinkDownTold(peer, one, kind, origin))
                self.readable(peer, "LINK_DOWN", one, kind=kind)
        self.supervise(j.Reaped(os_pid))
        for peer in killed:
            if peer not in self.traps and peer in self.live:
                self.supervise(j.KillOrdered(int(peer.rpartition(".")[2].rstrip("}")), ""))
                self.supervise(j.Signalled(1000 + int(peer.rpartition(".")[2].rstrip("}")), 9, False))
                self.die(peer, kind, origin or one)

    def _tell(self, watcher: str, ref: int, target: str, kind: str, origin: str) -> None:
        self.supervise(j.ExitTold(watcher, ref, target, kind, origin))
        self.readable(watcher, "EXIT", target, ref=ref, kind=kind)

    def send(self, sender: str, to: str, size: int) -> None:
        """A message is sent, and read if the receiver lives."""
        self.write("worker", j.Sent(sender, (to,), "t", size), 100 + self.live.index(sender))
        if to in self.live:
            self.readable(to, "message", sender, topic="t", size=size)

    def name(self, name: str, one: str) -> None:
        """A process gets a name, or does not."""
        holder = self.names.setdefault(name, one)
        self.supervise(j.Named(name, one) if holder == one else j.NameRefused(name, one, holder))

    def look_up(self, name: str) -> None:
        """Somebody asks for a name."""
        self.supervise(j.LookedUp(name, "", self.names.get(name, "")))

    # --- connections --------------------------------------------------------------------------------------------------

    def client(
        self, serial: int, stream: str, *parts: tuple[str, int], cause: str = "CloseReceived", code: int = 1000
    ) -> str:
        """A client's whole life: it sends so many items to each target in turn, and ends."""
        conn, number = connection(serial), 0
        self.supervise(j.Spawned(conn, "connection", "", 0, "", ""))
        self.write("test", j.ClientOpened(stream))
        for epoch, (target, items) in enumerate(parts, 1):
            self.write("gateway", j.Joined(conn, target, epoch))
            self.readable(target, "message", conn, topic="ws.join", epoch=1)
            for _ in range(items):
                number += 1
                self.write("test", j.ClientSent(stream, number))
                self.readable(target, "message", conn, topic="ws.message", size=4, epoch=1)
                self.write("worker", j.NumberReceived(target, conn, stream, number), 100 + self.live.index(target))
            reason = "transferred" if epoch < len(parts) else "closed"
            if epoch == len(parts):
                self.write("gateway", j.CloseSent(conn, code, cause, "", False))
            self.write("gateway", j.Left(conn, target, epoch, items, reason))
            self.readable(target, "message", conn, topic="ws.leave", kind=reason, epoch=1)
        self.write("gateway", j.ConnectionOver(conn, "normal"))
        self.supervise(j.Died(conn, "normal", ""))
        self.write("test", j.ClientClosed(stream, code))
        for target, _ in parts:
            self.waits(target)
        return conn
