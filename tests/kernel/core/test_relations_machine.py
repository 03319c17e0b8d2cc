"""The machine of `test_table_machine` with groups, named spawn and exec beside all the rest (S5, S33, S34)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from wsrelay.kernel.core.effects import ExecutionOverdue, GraceExpired, SendToWorker, SetTimer, StartWorker
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.reason import WireReason

from .comparison import FUNCTION_HOSTS, MAX_PROCESSES, NAMES, POOL_SIZES, STRANGERS
from .model import Being, Model, bare
from .test_table_machine import TableMachine

GROUPS = ["red", "blue"]


class RelationsModel(Model):
    """The model of a node with what a process can be besides: lists again."""

    def __init__(self, function_hosts: dict[str, str], pool_sizes: dict[str, int]) -> None:
        super().__init__(function_hosts, pool_sizes)
        self.joins: list[tuple[str, str]] = []
        """Group and member, once for each join."""
        self.watches: list[tuple[str, int, str]] = []
        """Watcher, ref, group."""
        self.executions: list[tuple[str, int, str]] = []
        """Caller, request, child."""

    def members(self, group: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(pid for joined, pid in self.joins if joined == group))

    def is_member(self, pid: str) -> bool:
        return any(member == pid for _, member in self.joins)

    def change(self, group: str, member: str, joined: bool) -> Iterator[Any]:
        for watcher, ref, watched in self.watches:
            if watched == group:
                yield self.to(watcher, m.GroupChanged(ref, member, joined))

    def withdraw(self, caller: str, request: int) -> Iterator[Any]:
        """The child is not waited for any more."""
        [child] = [execution[2] for execution in self.executions if execution[:2] == (caller, request)]
        self.executions.remove((caller, request, child))
        yield self.to(caller, m.Failed(request, "Timeout", "", None))
        yield from self.doom(child, bare("killed"))

    def die(self, pid: str, reason: WireReason, marks: dict[int, int], gateway: int) -> Iterator[Any]:
        self.watches = [watch for watch in self.watches if watch[0] != pid]
        left = {group for group, member in self.joins if member == pid}
        self.joins = [join for join in self.joins if join[1] != pid]
        for group in left:
            yield from self.change(group, pid, False)
        mine = [execution for execution in self.executions if pid in (execution[0], execution[2])]
        self.executions = [execution for execution in self.executions if execution not in mine]
        for caller, request, child in mine:
            if child == pid:
                yield self.to(caller, m.Executed(request, pid, reason))
            else:
                yield from self.doom(child, bare("killed"))
        yield from super().die(pid, reason, marks, gateway)

    def end_worker(self, number: int, exit_code: int | None, signal: str | None, gateway: int) -> Iterator[Any]:
        worker = self.workers[number]
        is_upgraded = worker.handed_over and exit_code == 0 and worker.doom is None
        yield from super().end_worker(number, exit_code, signal, gateway)
        if is_upgraded:  # the code that waited is replaced: nobody is answered (S35)
            mine = [execution for execution in self.executions if execution[0] == worker.pid]
            self.executions = [execution for execution in self.executions if execution not in mine]
            for _, _, child in mine:
                yield from self.doom(child, bare("killed"))


class RelationsMachine(TableMachine):
    """More rules; those of the table's machine are inherited."""

    def __init__(self) -> None:
        super().__init__()
        self.model: RelationsModel = RelationsModel(FUNCTION_HOSTS, POOL_SIZES)

    # --- spawn and exec -----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.programs())
    @rule(data=st.data(), host=st.sampled_from(sorted(POOL_SIZES)), link=st.booleans(), name=st.sampled_from(NAMES))
    def spawn_named(self, data: st.DataObject, host: str, link: bool, name: str) -> None:
        parent, request = self.program(data), self.number()
        record = m.SpawnNamed(request, "t:actor", host, b"arguments", link, True, name)
        holder = self.model.names.get(name)
        if holder is not None:
            self.ask(parent, record, [self.failed(parent, request, "AlreadyExists", holder[0])])
        elif self.model.actors_on(host) >= MAX_PROCESSES[host]:
            self.ask(parent, record, [self.failed(parent, request, "LimitExceeded")])
        else:
            effects = self.table.from_worker(self.model.beings[parent].worker, record, self.now)
            pid = self.newborn(effects, parent)
            self.settle(effects, [self.reply(parent, request, pid)])
            self.model.names[name] = (pid, parent)
            self.model.monitors.append((parent, request, pid))
            if link:
                self.model.links.append(frozenset({parent, pid}))

    def newborn(self, effects: list[Any], parent: str) -> str:
        first = effects[0]
        assert isinstance(first, StartWorker)
        pid = str(first.start.pid)
        self.model.beings[pid] = Being(pid, "actor", "t:actor", first.worker, parent=parent)
        return pid

    @precondition(lambda self: self.programs())
    @rule(data=st.data(), host=st.sampled_from(sorted(POOL_SIZES)), timeout=st.sampled_from([None, 0, 100, 2000]))
    def execute(self, data: st.DataObject, host: str, timeout: int | None) -> None:
        caller, request = self.program(data), self.number()
        record = m.Execute(request, "t:actor", host, b"arguments", timeout)
        if self.model.actors_on(host) >= MAX_PROCESSES[host]:
            self.ask(caller, record, [self.failed(caller, request, "LimitExceeded")])
            return
        effects = self.table.from_worker(self.model.beings[caller].worker, record, self.now)
        pid = self.newborn(effects, caller)
        timers = [] if timeout is None else [SetTimer(self.now + timeout / 1000, ExecutionOverdue(pid))]
        self.settle(effects, timers)
        self.model.executions.append((caller, request, pid))

    @precondition(lambda self: self.programs() and self.requests)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        writers = self.programs()
        known = [execution[:2] for execution in self.model.executions if execution[0] in writers]
        caller, request = data.draw(st.sampled_from([*known, (writers[0], self.requests)]), "execution")
        expected = self.model.withdraw(caller, request) if (caller, request) in known else ()
        self.ask(caller, m.GiveUp(request), expected)

    @rule(seconds=st.sampled_from([0.05, 0.1, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        due = sorted((timer for timer in self.timers if timer.deadline <= self.now), key=lambda timer: timer.deadline)
        for timer in due:
            self.timers.remove(timer)
            self.settle(self.table.timer_fired(timer.event, self.now), self.overdue(timer.event))

    def overdue(self, event: Any) -> Iterator[Any]:
        being = self.model.beings.get(event.pid) if isinstance(event, GraceExpired | ExecutionOverdue) else None
        if being is not None and isinstance(event, ExecutionOverdue):
            for caller, request, child in self.model.executions[:]:
                if child == being.pid:
                    yield from self.model.withdraw(caller, request)
        elif being is not None and being.deadline is not None and being.deadline <= self.now:
            yield from self.model.doom(being.pid, bare("killed"))

    # --- groups -------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.programs())
    @rule(data=st.data(), group=st.sampled_from(GROUPS))
    def join_group(self, data: st.DataObject, group: str) -> None:
        self.do_join(self.program(data), self.anybody(data), group)

    @precondition(lambda self: self.programs())
    @rule(data=st.data(), group=st.sampled_from(GROUPS), joins=st.integers(1, 2))
    def join_and_be_watched(self, data: st.DataObject, group: str, joins: int) -> None:
        """Joined, watched and monitored at once, and perhaps left again: what chance alone brings together too rarely."""
        watcher, member = self.program(data), self.program(data)
        for _ in range(joins):
            self.do_join(watcher, member, group)
        self.do_watch(watcher, group)
        request = self.number()
        self.ask(watcher, m.Monitor(request, member), [self.reply(watcher, request)])
        self.model.monitors.append((watcher, request, member))
        if data.draw(st.booleans(), "leave"):
            self.do_leave(watcher, member, group)

    def do_join(self, caller: str, member: str, group: str) -> None:
        request = self.number()
        if member not in self.model.beings:
            expected = [self.failed(caller, request, "NoProc")]
        else:
            is_new = (group, member) not in self.model.joins
            expected = list(self.model.change(group, member, True)) if is_new else []
            self.model.joins.append((group, member))
            expected.append(self.reply(caller, request, self.model.joins.count((group, member))))
        self.ask(caller, m.JoinGroup(request, group, member), expected)

    @precondition(lambda self: self.programs())
    @rule(data=st.data(), group=st.sampled_from(GROUPS))
    def leave_group(self, data: st.DataObject, group: str) -> None:
        member = data.draw(st.sampled_from([*self.model.members(group), *self.model.beings, *STRANGERS]), "member")
        self.do_leave(self.program(data), member, group)

    def do_leave(self, caller: str, member: str, group: str) -> None:
        request = self.number()
        expected = []
        if (group, member) in self.model.joins:
            self.model.joins.remove((group, member))
            if (group, member) not in self.model.joins:
                expected += self.model.change(group, member, False)
        expected.append(self.reply(caller, request, self.model.joins.count((group, member))))
        self.ask(caller, m.LeaveGroup(request, group, member), expected)

    @precondition(lambda self: self.programs())
    @rule(data=st.data(), group=st.sampled_from(GROUPS), watch=st.booleans())
    def list_or_watch(self, data: st.DataObject, group: str, watch: bool) -> None:
        self.do_watch(self.program(data), group, watch)

    def do_watch(self, caller: str, group: str, watch: bool = True) -> None:
        request = self.number()
        record = m.WatchGroup(request, group) if watch else m.ListMembers(request, group)
        effects = self.table.from_worker(self.model.beings[caller].worker, record, self.now)
        [answer] = effects
        assert isinstance(answer, SendToWorker)
        assert answer.worker == self.model.beings[caller].worker
        assert isinstance(answer.record, m.Members)
        assert answer.record.request == request
        assert sorted(answer.record.pids) == sorted(self.model.members(group)), "each distinct member once"
        if watch:
            self.model.watches.append((caller, request, group))

    def watches_of_writers(self) -> list[tuple[str, int, str]]:
        return [watch for watch in self.model.watches if watch[0] in self.programs()]

    @precondition(lambda self: self.watches_of_writers())
    @rule(data=st.data())
    def unwatch_group(self, data: st.DataObject) -> None:
        watch = data.draw(st.sampled_from(self.watches_of_writers()))
        caller, request = watch[0], self.number()
        self.model.watches.remove(watch)
        for _ in range(2):
            self.ask(caller, m.UnwatchGroup(request, watch[1]), [self.reply(caller, request)])

    @invariant()
    def tables_agree(self) -> None:
        self.table.check_invariants()
        assert self.table.statistics() == {
            "processes": len(self.model.beings),
            "workers": len(self.model.workers),
            "names": len(self.model.names),
            "monitors": len(self.model.monitors),
            "links": len(self.model.links),
            "memberships": len(set(self.model.joins)),
            "watches": len(self.model.watches),
            "executions": len(self.model.executions),
        }


TestRelations = RelationsMachine.TestCase
TestRelations.settings = settings(stateful_step_count=60)
