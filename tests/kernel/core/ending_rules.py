"""Rules for the process table and its model: how workers end, and how their code is replaced."""

from __future__ import annotations

import signal

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from wsrelay.kernel.core.effects import SendToWorker
from wsrelay.kernel.core.endings import WaitStatus
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.reason import WireReason, make_reason

from .comparison import NAMES, STRANGERS
from .living_rules import LivingRules
from .model import bare

STATUSES = st.sampled_from([
    WaitStatus(0), WaitStatus(1), WaitStatus(3), WaitStatus(None, signal.SIGKILL), WaitStatus(None, signal.SIGSEGV),
    WaitStatus(None, signal.SIGKILL), WaitStatus(None, signal.SIGKILL),
])  # fmt: skip
REPORTS = st.sampled_from(
    [
        make_reason("normal", value=b"value"),
        make_reason("cancelled"),
        make_reason("exception", "ValueError: no", error="Traceback"),
        make_reason("limit:mailbox", "full"),
    ]
)


class EndingRules(LivingRules):
    """What ends a worker, or the code that it runs."""

    # --- rules: deaths ------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.workers)
    @rule(data=st.data(), reason=REPORTS)
    def report(self, data: st.DataObject, reason: WireReason) -> None:
        worker = self.model.workers[data.draw(st.sampled_from(list(self.model.workers)))]
        children = [being.pid for being in self.model.beings.values() if being.parent and being.parent == worker.pid]
        target = data.draw(st.sampled_from([None, *NAMES, *children])) if not reason.clean else None
        expected = self.model.report(worker.number, reason, target)
        self.settle(self.table.from_worker(worker.number, m.ExitReport(reason, target), self.now), expected)

    @precondition(lambda self: self.model.handshakes)
    @rule(data=st.data(), failure=st.sampled_from(["report", "exit", "kill"]))
    def a_handshake_fails(self, data: st.DataObject, failure: str) -> None:
        """S44, oftener than it comes about by itself."""
        unanswered = [pid for pid in self.programs("invocation") if self.model.beings[pid].handshake]
        if unanswered:
            invocation = self.model.beings[data.draw(st.sampled_from(unanswered))]
            self.do_spawn(invocation.pid, "t:host", link=False, monitor=False)
            for child in [being.pid for being in self.model.beings.values() if being.parent == invocation.pid]:
                if data.draw(st.booleans()):
                    self.do_register(invocation.pid, child, data.draw(st.sampled_from(NAMES)))
            children = [being.pid for being in self.model.beings.values() if being.parent == invocation.pid]
            if failure == "report":
                reason, target = make_reason("exception"), data.draw(st.sampled_from([None, *children]))
                expected = self.model.report(invocation.worker, reason, target)
                self.settle(self.table.from_worker(invocation.worker, m.ExitReport(reason, target), self.now), expected)
            self.end_worker(invocation.worker, WaitStatus(None, signal.SIGKILL) if failure == "kill" else WaitStatus(1))

    def end_worker(self, number: int, status: WaitStatus) -> None:
        name = signal.Signals(status.signal).name if status.signal else None
        expected = self.model.end_worker(number, status.exit_code, name, self.incarnation)
        self.settle(self.table.worker_exited(number, status, self.now), expected)
        if number not in self.model.workers:  # and so was not upgraded
            assert self.table.worker_exited(number, status, self.now) == [], "a death is committed once (S12)"

    @precondition(lambda self: self.model.workers)
    @rule(data=st.data(), status=STATUSES)
    def worker_exits(self, data: st.DataObject, status: WaitStatus) -> None:
        self.end_worker(data.draw(st.sampled_from(list(self.model.workers))), status)

    @precondition(lambda self: any(worker.doom for worker in self.model.workers.values()))
    @rule()
    def the_killed_die(self) -> None:
        for number in [worker.number for worker in self.model.workers.values() if worker.doom]:
            self.end_worker(number, WaitStatus(None, signal.SIGKILL))

    @precondition(lambda self: self.model.workers)
    @rule(data=st.data())
    def fork_fails(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(list(self.model.workers)))
        reason = self.model.workers[number].doom or bare("noconnection")
        effects = self.table.worker_failed(number, "host_lost", self.now)
        self.settle(effects, self.model.lose_worker(number, reason, self.incarnation))

    @precondition(lambda self: self.model.workers)
    @rule(data=st.data(), how=st.sampled_from(["garbage", "data", "fence", "mailbox", "killed", "origin", "topic"]))
    def worker_misbehaves(self, data: st.DataObject, how: str) -> None:
        number = data.draw(st.sampled_from(list(self.model.workers)))
        kind = {"fence": "noconnection", "mailbox": "limit:mailbox"}.get(how, "protocol")
        spoofed = make_reason("killed") if how == "killed" else make_reason("exception")._replace(origin=STRANGERS[0])
        match how:
            case "garbage":
                effects = self.table.worker_violated(number, "no frame")
            case "data":
                effects = self.table.from_gateway(m.ReportViolation(number, "no frame"))
            case "fence":
                effects = self.table.worker_lost(number)
            case "mailbox":
                effects = self.table.worker_overflowed(number)
            case "topic":
                effects = self.table.from_worker(number, m.Send((STRANGERS[1],), "@exit", b""), self.now)
            case _:
                effects = self.table.from_worker(number, m.ExitReport(spoofed), self.now)
        self.settle(effects, self.model.doom_worker(number, bare(kind)))

    # --- rules: upgrade (S35) -----------------------------------------------------------------------------------------

    @precondition(lambda self: self.programs("actor"))
    @rule(data=st.data(), entry=st.sampled_from([None, "t:other", "t:other"]))
    def upgrade(self, data: st.DataObject, entry: str | None) -> None:
        self.do_upgrade(self.program(data, "actor"), entry)

    def do_upgrade(self, pid: str, entry: str | None) -> None:
        request = self.number()
        self.ask(pid, m.Upgrade(request, entry, b"new arguments"), self.model.upgrade(pid, request, entry))

    @precondition(lambda self: self.programs())
    @rule(data=st.data(), entry=st.sampled_from([None, "t:actor", "t:nothing"]))
    def upgrade_wrongly(self, data: st.DataObject, entry: str | None) -> None:
        self.do_upgrade(self.program(data), entry)

    def upgraded(self) -> list[int]:
        return [worker.number for worker in self.model.workers.values() if worker.upgrade]

    @precondition(lambda self: self.upgraded())
    @rule(data=st.data())
    def hand_over(self, data: st.DataObject) -> None:
        self.do_hand_over(data.draw(st.sampled_from(self.upgraded())))

    def do_hand_over(self, number: int) -> None:
        self.settle(self.table.from_worker(number, m.HandedOver(5), self.now), self.model.hand_over(number))

    @precondition(lambda self: self.model.workers)
    @rule(data=st.data())
    def hand_over_wrongly(self, data: st.DataObject) -> None:
        self.do_hand_over(data.draw(st.sampled_from(list(self.model.workers))))

    @precondition(lambda self: self.upgraded())
    @rule(data=st.data(), handed_over=st.booleans())
    def old_code_ends(self, data: st.DataObject, handed_over: bool) -> None:
        number = data.draw(st.sampled_from(self.upgraded()))
        if handed_over and not self.model.workers[number].handed_over:
            self.do_hand_over(number)
        self.end_worker(number, WaitStatus(0))

    @precondition(lambda self: self.upgraded())
    @rule(data=st.data())
    def upgrade_is_refused(self, data: st.DataObject) -> None:
        """Its channels cannot be made: that is known at once, before the old code has heard of anything."""
        worker = self.model.workers[data.draw(st.sampled_from(self.upgraded()))]
        if not worker.handed_over:
            pid = worker.pid or ""
            worker.upgrade = ""
            effects = self.table.upgrade_refused(worker.number, "too many open files")
            [effect] = [effect for effect in effects if isinstance(effect, SendToWorker)]
            assert isinstance(effect.record, m.Failed)
            self.settle(effects, [self.failed(pid, effect.record.request, "LimitExceeded")])
