"""Groups: who has joined which, and who watches (S33).

Owns memberships and watches. As in Erlang's pg, any process may make any live process a member, a WebSocket connection too,
and may take a join back: membership belongs to the member, and outlives who asked for it. Joins are counted for each member;
the members of a group, its broadcasts and its watches know only whether the count is more than zero.
"""

from __future__ import annotations

from ..wire import messages as m
from ..wire.errors import LimitExceeded, NoProc
from ..wire.pid import Pid, check_name
from ..wire.reason import WireReason
from .effects import SendToWorker
from .population import Population, require
from .processes import Process

MAX_MEMBERS = 100_000
"""Distinct members of one group: so many PIDs of any length fit into one frame."""


class Groups:
    """What processes ask about groups. A group without members or watchers does not exist."""

    def __init__(self, population: Population) -> None:
        self._population = population
        self._members: dict[str, dict[Pid, None]] = {}
        """Group to its distinct members, in the order in which they joined."""
        self._watchers: dict[str, dict[tuple[str, int], None]] = {}
        """Group to (PID, ref)."""
        population.on_ended.append(self._process_ended)

    def join(self, caller: Process, request: m.JoinGroup) -> None:
        """Count one more join. Raises NoProc for a dead process, Invalid, or LimitExceeded."""
        group = check_name(request.group)
        member = self._population.processes.get(Pid.parse(request.pid))
        if member is None:
            raise NoProc(f"{request.pid} has ended or never was: it cannot join {group!r}")
        if group not in member.groups:
            self._population.check_room(member.groups, "groups")
            if len(self._members.get(group, ())) >= MAX_MEMBERS:
                raise LimitExceeded(f"the group {group!r} is full: it has {MAX_MEMBERS} members")
            self._members.setdefault(group, {})[member.pid] = None
            member.groups[group] = 0
            self._tell(group, member.pid, joined=True)
        member.groups[group] += 1
        self._population.reply(caller, request.request, member.groups[group])

    def leave(self, caller: Process, request: m.LeaveGroup) -> None:
        """Count one join less. Nothing happens if there is none: the member may just have died."""
        member = self._population.processes.get(request.pid)
        left = 0
        if member is not None and request.group in member.groups:
            left = member.groups[request.group] = member.groups[request.group] - 1
            if left == 0:
                del member.groups[request.group]
                self._remove(request.group, member.pid)
        self._population.reply(caller, request.request, left)

    def list_members(self, caller: Process, request: m.ListMembers) -> None:
        """Resolve a group for the caller, who then sends to each on the path that belongs to it (S6)."""
        members = tuple(self._members.get(request.group, ()))
        self._population.effects.append(SendToWorker(caller.worker, m.Members(request.request, members)))

    def watch(self, caller: Process, request: m.WatchGroup) -> None:
        """Answer with the members as they are, and from here on with every change."""
        group = check_name(request.group)
        self._population.check_room(caller.watching, "watches")
        self._population.check_new_ref(caller.watching, request.request)
        caller.watching[request.request] = group
        self._watchers.setdefault(group, {})[caller.pid, request.request] = None
        self.list_members(caller, m.ListMembers(request.request, group))

    def unwatch(self, caller: Process, request: m.UnwatchGroup) -> None:
        """Remove a watch; nothing happens if it is gone."""
        group = caller.watching.pop(request.ref, None)
        if group is not None:
            self._forget_watch(group, caller.pid, request.ref)
        self._population.reply(caller, request.request)

    def _process_ended(self, process: Process, reason: WireReason) -> None:
        """A death leaves all groups, before anyone is told of any of it (S15)."""
        for ref, group in process.watching.items():
            self._forget_watch(group, process.pid, ref)
        for group in process.groups:
            self._remove(group, process.pid)

    def _remove(self, group: str, member: Pid) -> None:
        members = self._members[group]
        del members[member]
        if not members:
            del self._members[group]
        self._tell(group, member, joined=False)

    def _forget_watch(self, group: str, watcher: str, ref: int) -> None:
        watchers = self._watchers[group]
        del watchers[watcher, ref]
        if not watchers:
            del self._watchers[group]

    def _tell(self, group: str, member: Pid, *, joined: bool) -> None:
        for watcher, ref in self._watchers.get(group, ()):
            worker = self._population.processes[watcher].worker
            self._population.effects.append(SendToWorker(worker, m.GroupChanged(ref, member, joined)))

    def check_invariants(self) -> None:
        """Raise AssertionError if the two sides of a membership or a watch disagree, or a group is empty."""
        live = self._population.processes
        require(all(self._members.values()) and all(self._watchers.values()), "an empty group does not exist")
        for group, members in self._members.items():
            require(all(live[pid].groups.get(group, 0) > 0 for pid in members), "a member lives, and has joined")
        for group, watchers in self._watchers.items():
            require(all(live[pid].watching.get(ref) == group for pid, ref in watchers), "a watcher lives, and watches")
        for pid, process in live.items():
            require(all(process.pid in self._members[group] for group in process.groups), "who has joined is a member")
            watched = process.watching.items()
            require(
                all((pid, ref) in self._watchers[group] for ref, group in watched), "watches are kept on both sides"
            )
