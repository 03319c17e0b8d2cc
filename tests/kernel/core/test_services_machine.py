"""Services beside a naive model, in any order of events: what runs, what restarts and when, in which order (S36 to S39), and who waits
for it (S56)."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from wsrelay.kernel.core.effects import (
    GraceExpired,
    RestartDue,
    SendToGateway,
    StartOverdue,
)
from wsrelay.kernel.core.endings import WaitStatus
from wsrelay.kernel.core.service_states import State
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.errors import Invalid
from wsrelay.kernel.wire.reason import WireReason, make_reason

from .services_model import NAMED, SERVICES, Life, ServicesComparison

LIMIT_CASES = {id: each for id, each in SERVICES.items() if each.lifecycle.restart.intensity < 5}
STATUSES = st.sampled_from([
    (WaitStatus(0), make_reason("normal")), (WaitStatus(0), make_reason("cancelled")), (WaitStatus(3), None),
    (WaitStatus(None, signal.SIGSEGV), None), (WaitStatus(None, signal.SIGSEGV), None),
])  # fmt: skip


class ServicesMachine(ServicesComparison):
    """Every rule does one thing, and then asks the model what must have come of it."""

    # --- rules --------------------------------------------------------------------------------------------------------

    @initialize()
    def start(self) -> None:
        for id, life in self.lives.items():
            if life.service.lifecycle.auto_start:
                self.want(id)
        self.settle(self.table.start(self.now))
        self.table.from_gateway(m.RequestInvocation(1, "t:f"))

    @precondition(lambda self: any(life.pid and life.forked is None for life in self.lives.values()))
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from([id for id in self.up() if self.lives[id].forked is None]))
        self.lives[id].forked = self.now
        self.settle(self.table.worker_born(self.workers[self.lives[id].pid], self.now))

    @rule()
    def fork_all(self) -> None:
        while ids := [id for id in self.up() if self.lives[id].forked is None]:
            self.lives[ids[0]].forked = self.now
            self.settle(self.table.worker_born(self.workers[self.lives[ids[0]].pid], self.now))

    def finish(self, id: str, status: WaitStatus, report: WireReason | None) -> None:
        pid, random = self.lives[id].pid, self.random
        number = self.workers.pop(pid)
        if report is not None:
            self.take(self.table.from_worker(number, m.ExitReport(report), self.now))
        was_wanted = self.lives[id].wanted
        restarts = self.end(id, clean=report is not None)
        assert self.random == random
        effects = self.table.worker_exited(number, status, self.now)
        [ended] = [e.record for e in effects if isinstance(e, SendToGateway) and isinstance(e.record, m.WorkerEnded)]
        assert ended.restarting == restarts, "clients get 1012 exactly if it comes back (S49)"
        for connection in [each for each, bound in self.bound.items() if bound == id]:
            del self.bound[connection]
            if restarts:
                self.held[connection] = id
        gave_up = was_wanted and self.lives[id].outcome == "failed"
        self.settle(effects, failed=(id,) if gave_up else ())
        for connection, service in list(self.held.items()):
            if service == id:
                self.take(self.table.from_gateway(m.AwaitService(connection, SERVICES[id].register or "")))

    @precondition(lambda self: any(self.lives[id].pid for id in NAMED))
    @rule(data=st.data())
    def admit(self, data: st.DataObject) -> None:
        """A connection whose target is a service, by its name."""
        id = data.draw(st.sampled_from([id for id in NAMED if self.lives[id].pid]))
        self.connections += 1
        connection = f"{{n@t:http|00112233445566ff.g1.{self.connections}}}"
        admit = m.Admit(self.connections, connection, SERVICES[id].register or "", "")
        pid = self.lives[id].pid
        admitted = m.Admitted(admit.request, pid, self.workers[pid], SERVICES[id].process)
        assert self.table.from_gateway(admit) == [SendToGateway(admitted)]
        self.bound[connection] = id

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def a_held_connection_ends(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(sorted(self.held)))
        del self.held[connection]
        self.take(self.table.from_gateway(m.ConnectionEnded(connection, make_reason("normal"), ())))

    @precondition(lambda self: self.up())
    @rule(data=st.data(), how=STATUSES, random=st.sampled_from([0.0, 0.5, 0.75]))
    def process_ends(self, data: st.DataObject, how: tuple[WaitStatus, WireReason | None], random: float) -> None:
        self.random = random
        self.finish(data.draw(st.sampled_from(self.up())), *how)

    @precondition(lambda self: any(self.lives[id].pid for id in LIMIT_CASES))
    @rule(data=st.data())
    def crash_again_and_again(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from([id for id in LIMIT_CASES if self.lives[id].pid]))
        for _ in range(3):
            if self.lives[id].pid:
                self.finish(id, WaitStatus(None, signal.SIGSEGV), None)
            due = self.lives[id].due
            if due is not None:
                self.let_time_pass(due - self.now)

    @precondition(lambda self: self.doomed & {life.pid for life in self.lives.values()})
    @rule()
    def the_killed_die(self) -> None:
        for id in self.up():
            if self.lives[id].pid in self.doomed:
                self.finish(id, WaitStatus(None, signal.SIGKILL), None)

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 6.0, 30.0]), late=st.sampled_from([0.0, 0.0, 0.25, 3.0]))
    def time_passes(self, seconds: float, late: float) -> None:
        self.let_time_pass(seconds, late)

    def let_time_pass(self, seconds: float, late: float = 0.0) -> None:
        """Timers come one by one, in their order, and perhaps too late."""
        end = self.now + seconds
        while due := sorted((timer for timer in self.timers if timer.deadline <= end), key=lambda each: each.deadline):
            timer = due[0]
            self.timers.remove(timer)
            self.now = max(self.now, timer.deadline + late)
            doomed = set(self.doomed)
            effects = self.table.timer_fired(timer.event, self.now)
            match timer.event:
                case RestartDue(id):
                    due_at = self.lives[id].due
                    self.lives[id].over = due_at is not None and due_at <= self.now
                    self.settle(effects)
                case StartOverdue(pid):
                    self.settle(effects)
                    unborn = {each.pid for each in self.lives.values() if each.wanted and each.forked is None}
                    assert self.doomed - doomed == ({pid} & unborn) - doomed, "what is not forked is killed"
                case GraceExpired(pid):
                    self.settle(effects)
                    assert self.doomed - doomed == ({pid} & {life.pid for life in self.lives.values()}) - doomed
                case _:
                    self.take(effects)
        self.now = max(self.now, end)

    @rule(id=st.sampled_from(sorted(SERVICES)))
    def start_service(self, id: str) -> None:
        stopping = [each for each, life in self.lives.items() if life.pid and not life.wanted]
        if self.closed or (stopping and (id in stopping or self.needs(id) & set(stopping))):
            with pytest.raises(Invalid):
                self.table.start_service(id, self.now)
        else:
            self.want(id)
            self.settle(self.table.start_service(id, self.now))

    def needs(self, id: str) -> set[str]:
        """What would be started with it, or is in the way of that."""
        found = set()
        for each in SERVICES[id].lifecycle.requires:
            if not self.lives[each].wanted and not self.lives[each].outcome:
                found |= {each} | self.needs(each)
        return found

    @rule(id=st.sampled_from(sorted(SERVICES)))
    def stop_service(self, id: str) -> None:
        for each in self.all_dependents(id):
            self.lives[each].wanted, self.lives[each].due = False, None
        self.settle(self.table.stop_service(id, self.now))

    @precondition(lambda self: not self.closed)
    @rule(really=st.integers(0, 9))
    def shut_down(self, really: int) -> None:
        if really == 0:
            self.closed = True
            for life in self.lives.values():
                life.wanted, life.due = False, None
            longest = self.table.stop_time()
            assert longest <= sum(life.service.lifecycle.stop_timeout for life in self.lives.values() if life.pid)
            self.settle(self.table.cancel_all(self.now, 1.0))

    @rule(id=st.sampled_from([id for id, each in SERVICES.items() if each.register]))
    def a_stranger_wants_the_name(self, id: str) -> None:
        [invocation] = [number for number in self.table.workers() if number not in self.workers.values()]
        stranger = self.table._workers[invocation].pid
        name = SERVICES[id].register
        assert stranger
        assert name
        self.requests += 1
        [answer] = self.table.from_worker(invocation, m.Register(self.requests, name, stranger), self.now)
        failed = answer.record  # type: ignore[union-attr]
        assert failed[1::2] == ("AlreadyExists", self.lives[id].pid or None)
        [answer] = self.table.from_worker(invocation, m.Lookup(self.requests, name), self.now)
        assert answer.record == m.Reply(self.requests, self.lives[id].pid or None)  # type: ignore[union-attr]

    # --- after every step ---------------------------------------------------------------------------------------------

    @invariant()
    def who_is_held_waits_for_what_will_be(self) -> None:  # S56
        for id in self.held.values():
            assert not self.lives[id].pid, "it has its name again"
            assert self.lives[id].wanted or self.closed, "it will not come back"

    @invariant()
    def tables_agree(self) -> None:
        self.table.check_invariants()
        for id, (state, pid) in self.table.services().items():
            life = self.lives[id]
            assert pid == life.pid
            assert state == self.state_of(life), id
            policy = life.service.lifecycle.restart
            for time in life.restarts:
                window = [each for each in life.restarts if time - policy.period < each <= time]
                assert len(window) <= policy.intensity, "no period sees more restarts than the intensity (S37)"

    def state_of(self, life: Life) -> State:
        if life.pid:
            if not life.wanted:
                return State.STOPPING if life.cancelled else State.RETIRING
            return State.RUNNING if life.forked is not None else State.STARTING
        if life.wanted:
            return State.BACKING_OFF if life.due is not None else State.WAITING
        return {"": State.STOPPED, "finished": State.FINISHED, "failed": State.FAILED}[life.outcome]

    def teardown(self) -> None:
        """After the last kill nothing comes back, whatever timers are left."""
        self.closed = self.killed = True
        for life in self.lives.values():
            life.wanted, life.due = False, None
        self.settle(self.table.kill_all())
        while self.up():
            self.finish(self.up()[0], WaitStatus(None, signal.SIGKILL), None)
        self.let_time_pass(1000.0)
        assert not self.up()
        assert self.table.actors() == 0


TestServices = ServicesMachine.TestCase
TestServices.settings = settings(stateful_step_count=50)
