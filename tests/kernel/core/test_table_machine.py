"""The process table beside a naive model, under any sequence of operations and faults."""

from __future__ import annotations

import signal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from wsrelay.kernel.core.effects import PoolRefill, SendToGateway
from wsrelay.kernel.core.endings import WaitStatus
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.reason import make_reason

from .comparison import EPOCH, NAMES, POOL_SIZES, STRANGERS
from .ending_rules import EndingRules
from .model import Being, bare


class TableMachine(EndingRules):
    """Every rule does one thing to both, and compares what came of it. Those of connections are here, the others above it."""

    @initialize()
    def start(self) -> None:
        self.settle(self.table.start(self.now))
        for function, handshake in (("t:f", True), ("t:f", True), ("t:g", False)):
            self.request_invocation(function, handshake)
        first = self.programs()[0]
        for link, monitor in ((True, True), (False, True), (True, False)):
            self.do_spawn(first, "t:host", link, monitor)
        actors = self.programs("actor")
        for target in (actors[0], actors[0], actors[1]):
            self.do_admit(target, first)
        for watcher, connection in zip(actors, self.open_connections(), strict=True):
            self.do_monitor(watcher, connection)
        for pid in actors[:2]:
            self.do_upgrade(pid, "t:other")
        self.do_hand_over(self.model.beings[actors[0]].worker)

    # --- rules: connections -------------------------------------------------------------------------------------------

    def target(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from([*NAMES, *self.model.beings, *list(self.reasons)[-2:], *STRANGERS]), "target")

    def admission(self, request: int, connection: str, target: str) -> SendToGateway:
        being = self.model.resolve(target)
        if being is None or being.kind == "connection":
            return SendToGateway(m.Refused(request, "Invalid" if being else "NotFound", ""))
        being.ever_admitted.append(connection)
        return SendToGateway(m.Admitted(request, being.pid, being.worker, being.entry, being.joined))

    @precondition(lambda self: self.model.beings)
    @rule(data=st.data())
    def admit(self, data: st.DataObject) -> None:
        self.do_admit(self.target(data), self.anybody(data))

    def do_admit(self, target: str, invocation: str) -> None:
        request = self.number()
        self.connections += 1
        pid = f"{{n@t:http|{EPOCH}.g{self.incarnation}.{self.connections}}}"
        expected = self.admission(request, pid, target)
        if isinstance(expected.record, m.Admitted):
            self.new_pid(pid)
            self.model.beings[pid] = Being(pid, "connection", "t:http", parent=invocation, target=expected.record.pid)
        self.gateway(m.Admit(request, pid, target, invocation), [expected])

    @precondition(lambda self: self.open_connections())
    @rule(data=st.data())
    def retarget(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(self.open_connections()))
        target, request = self.target(data), self.number()
        if (being := self.model.resolve(target)) is not None and being.kind != "connection":
            being.joined = True
            self.model.beings[connection].target = being.pid
        self.gateway(m.Retarget(request, connection, target), [self.admission(request, connection, target)])

    @precondition(lambda self: self.open_connections())
    @rule(data=st.data())
    def joins(self, data: st.DataObject) -> None:
        """S44: a handshake is complete, of a connection whose target may be dead by now."""
        connection = data.draw(st.sampled_from(self.open_connections()))
        if (target := self.model.beings.get(self.model.beings[connection].target)) is not None:
            target.joined = True
        self.gateway(m.Joined(connection), [])

    @precondition(lambda self: self.programs())
    @rule(data=st.data(), admitted=st.booleans())
    def abandon(self, data: st.DataObject, admitted: bool) -> None:
        target = self.model.beings[self.program(data)]
        invocation = target.parent if data.draw(st.booleans()) else self.anybody(data)
        connection = target.ever_admitted[0] if admitted and target.ever_admitted else None
        expected = self.model.abandon(target.pid, invocation, connection)
        self.gateway(m.Abandon(target.pid, invocation, connection), expected)

    @precondition(lambda self: self.open_connections())
    @rule(data=st.data(), kind=st.sampled_from(["normal", "ws_closed:1006", "killed", "cancelled", "noconnection"]))
    def connection_ends(self, data: st.DataObject, kind: str) -> None:
        pid = data.draw(st.sampled_from(self.open_connections()))
        numbers = data.draw(st.lists(st.sampled_from([99999, *self.model.workers]), unique=True))
        marks = {number: 7 * number + 100 % (self.connections + 1) for number in numbers}
        reason = make_reason(kind)
        expected = self.model.die(pid, reason, marks, self.incarnation)
        self.gateway(m.ConnectionEnded(pid, reason, tuple(marks.items())), expected)
        self.gateway(m.ConnectionEnded(pid, make_reason("normal"), ()))

    @rule()
    def gateway_dies(self) -> None:
        """S41: its connections die, each once; nobody waits for what it had asked; the next incarnation begins."""
        self.model.waiting.clear()
        for being in self.model.beings.values():
            being.request = None
        lost = make_reason("noconnection", "gateway_lost")
        marks = dict.fromkeys(self.model.workers, m.END_OF_CHANNEL)
        connections = self.open_connections()
        expected = [e for pid in connections for e in self.model.die(pid, lost, marks, self.incarnation)]
        self.settle(self.table.gateway_lost(), expected)
        assert [self.reasons[pid] for pid in connections] == [lost] * len(connections)
        self.incarnation += 1
        self.connections = 0
        assert self.table.gateway == self.incarnation

    # --- after every step ---------------------------------------------------------------------------------------------

    @invariant()
    def tables_agree(self) -> None:
        self.table.check_invariants()
        assert self.table.statistics() == {
            "processes": len(self.model.beings),
            "workers": len(self.model.workers),
            "names": len(self.model.names),
            "monitors": len(self.model.monitors),
            "links": len(self.model.links),
            "memberships": 0,
            "watches": 0,
            "executions": 0,
        }
        assert self.table.workers() == list(self.model.workers)
        assert self.table.actors() == sum(not worker.is_function for worker in self.model.workers.values())

    @invariant()
    def pools_are_served(self) -> None:
        """Nobody waits beside a free worker; a pool is full, or is going to be."""
        refills = {timer.event.host for timer in self.timers if isinstance(timer.event, PoolRefill)}
        for host, size in POOL_SIZES.items():
            workers = [w for w in self.model.workers.values() if w.is_function and w.host == host]
            assert len(workers) <= size
            assert not (self.model.waiting_for(host) and self.model.free(host))
            if self.numbers and not self.model.closed:
                assert len(workers) == size or host in refills

    def teardown(self) -> None:
        """Shut down: after it there is nothing left."""
        self.model.closed = True
        expected = [e for number in list(self.model.workers) for e in self.model.doom_worker(number, bare("killed"))]
        self.settle(self.table.kill_all(), expected)
        self.time_passes(10.0)
        while self.model.workers:
            self.end_worker(next(iter(self.model.workers)), WaitStatus(None, signal.SIGKILL))
        for pid in self.open_connections():
            reason = make_reason("normal")
            self.gateway(m.ConnectionEnded(pid, reason, ()), self.model.die(pid, reason, {}, self.incarnation))
        self.table.check_invariants()
        assert set(self.table.statistics().values()) == {0}
        assert self.pids == set(self.reasons), "every process that was has ended, once"


TestProcessTable = TableMachine.TestCase
TestProcessTable.settings = settings(stateful_step_count=50)
