"""The process table beside a naive model, under any sequence of operations and faults."""

from __future__ import annotations

import signal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from wsrelay.kernel.core.effects import GraceExpired, PoolRefill, SendToGateway, SendToWorker, StartWorker
from wsrelay.kernel.core.endings import WaitStatus
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.reason import WireReason, make_reason

from .comparison import EPOCH, MAX_PROCESSES, NAMES, POOL_SIZES, STRANGERS, Comparison
from .model import Being, bare

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
CLEAN = st.sampled_from([make_reason("normal", value=b"v"), make_reason("cancelled")])


class TableMachine(Comparison):
    """Every rule does one thing to both, and compares what came of it."""

    # --- rules: starting ----------------------------------------------------------------------------------------------

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

    @rule(function=st.sampled_from(["t:f", "t:f", "t:g", "t:g", "t:never", "t:unknown"]), handshake=st.booleans())
    def request_invocation(self, function: str, handshake: bool) -> None:
        request = self.number()
        record = m.RequestInvocation(request, function, handshake)
        if handshake:
            self.model.handshakes.add(request)
        if function == "t:unknown":
            self.gateway(record, [SendToGateway(m.Refused(request, "NotFound", ""))])
        elif function == "t:never":
            self.gateway(record, [SendToGateway(m.Refused(request, "LimitExceeded", ""))])
        else:
            self.model.waiting.append((request, function))
            self.gateway(record)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def withdraw_invocation(self, data: st.DataObject) -> None:
        running = [b.request for b in self.model.beings.values() if b.request is not None]
        known = [request for request, _ in self.model.waiting] + running + [self.requests]
        request = data.draw(st.sampled_from(known))
        self.model.waiting = [entry for entry in self.model.waiting if entry[0] != request]
        pids = [b.pid for b in self.model.beings.values() if b.request == request]
        self.gateway(m.WithdrawInvocation(request), [e for pid in pids for e in self.model.doom(pid, bare("killed"))])

    @rule(data=st.data())
    def terminate_invocation(self, data: st.DataObject) -> None:
        pid = self.anybody(data)
        being = self.model.beings.get(pid)
        doomed = self.model.doom(pid, bare("killed")) if being and being.kind == "invocation" else ()
        self.gateway(m.TerminateInvocation(pid), doomed)

    @precondition(lambda self: self.programs("invocation"))
    @rule(data=st.data(), reason=CLEAN)
    def finish_invocation(self, data: st.DataObject, reason: WireReason) -> None:
        pid = self.program(data, "invocation")
        if self.model.workers[self.model.beings[pid].worker].report is None:
            self.ask(pid, m.InvocationEnded(pid, reason), self.model.finish_invocation(pid, reason, self.incarnation))

    @precondition(lambda self: self.programs())
    @rule(data=st.data(), host=st.sampled_from(sorted(POOL_SIZES)), link=st.booleans(), monitor=st.booleans())
    def spawn(self, data: st.DataObject, host: str, link: bool, monitor: bool) -> None:
        self.do_spawn(self.program(data), host, link, monitor)

    def do_spawn(self, parent: str, host: str, link: bool, monitor: bool) -> None:
        request = self.number()
        record = m.Spawn(request, "t:actor", host, b"arguments", link, monitor)
        if self.model.actors_on(host) >= MAX_PROCESSES[host]:
            self.ask(parent, record, [self.failed(parent, request, "LimitExceeded")])
            return
        effects = self.table.from_worker(self.model.beings[parent].worker, record, self.now)
        first = effects[0]
        assert isinstance(first, StartWorker), "addressable before the answer (S3)"
        pid = first.start.pid
        assert first.start[3:7] == ("t:actor", "file:///actor.py", "main", b"arguments")
        assert first.host == host
        self.settle(effects, [self.reply(parent, request, pid)])
        self.model.beings[pid] = Being(pid, "actor", "t:actor", first.worker, parent=parent)
        if link:
            self.model.links.append(frozenset({parent, pid}))
        if monitor:
            self.model.monitors.append((parent, request, pid))

    @precondition(lambda self: self.programs())
    @rule(data=st.data(), wrong=st.sampled_from([("t:nothing", "t:host"), ("t:actor", "t:nowhere")]))
    def spawn_the_unknown(self, data: st.DataObject, wrong: tuple[str, str]) -> None:
        pid, request = self.program(data), self.number()
        self.ask(pid, m.Spawn(request, *wrong, b"", True, True), [self.failed(pid, request, "NotFound")])

    # --- rules: signals -----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.programs())
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        sender = self.program(data)
        destinations = tuple(self.anybody(data) for _ in range(data.draw(st.integers(1, 3))))
        destinations = tuple(pid for pid in destinations if pid not in self.open_connections())
        deliver = m.Deliver(sender, "topic", b"payload")
        live = [pid for pid in destinations if pid in self.model.beings]
        if len(destinations) == 1:  # the fast path says the same, or nothing
            route = self.table.mail_route(self.model.beings[sender].worker, destinations[0])
            assert route in (None, *((sender, self.model.beings[pid].worker) for pid in live))
        self.ask(sender, m.Send(destinations, "topic", b"payload"), [self.model.to(pid, deliver) for pid in live])

    @precondition(lambda self: self.programs())
    @rule(data=st.data())
    def monitor(self, data: st.DataObject) -> None:
        self.do_monitor(self.program(data), self.anybody(data))

    def do_monitor(self, watcher: str, target: str) -> None:
        request = self.number()
        expected = [self.reply(watcher, request)]
        if target in self.model.beings:
            self.model.monitors.append((watcher, request, target))
        else:
            expected.append(self.model.to(watcher, m.Exit(request, target, bare("noproc"), None)))
        self.ask(watcher, m.Monitor(request, target), expected)

    @precondition(lambda self: self.programs() and self.requests)
    @rule(data=st.data())
    def unmonitor(self, data: st.DataObject) -> None:
        watcher, request = self.program(data), self.number()
        refs = [ref for _, ref, _ in self.model.monitors]
        ref = data.draw(st.sampled_from([*refs, self.requests]))
        self.model.monitors = [entry for entry in self.model.monitors if entry[:2] != (watcher, ref)]
        self.ask(watcher, m.Unmonitor(request, ref), [self.reply(watcher, request)])

    @precondition(lambda self: self.programs())
    @rule(data=st.data())
    def unmonitor_all(self, data: st.DataObject) -> None:
        watcher, target, request = self.program(data), self.anybody(data), self.number()
        self.model.monitors = [e for e in self.model.monitors if (e[0], e[2]) != (watcher, target)]
        self.ask(watcher, m.UnmonitorAll(request, target), [self.reply(watcher, request)])

    @precondition(lambda self: self.programs())
    @rule(data=st.data())
    def link(self, data: st.DataObject) -> None:
        caller, peer, request = self.program(data), self.anybody(data), self.number()
        expected = [self.reply(caller, request)]
        pair = frozenset({caller, peer})
        if peer in self.model.beings:
            if caller != peer and pair not in self.model.links:
                self.model.links.append(pair)
        elif self.model.beings[caller].trap:
            expected.append(self.model.to(caller, m.LinkDown(peer, bare("noproc"), None)))
        else:
            expected = [self.failed(caller, request, "NoProc")]
        self.ask(caller, m.Link(request, peer), expected)

    @precondition(lambda self: self.programs())
    @rule(data=st.data())
    def unlink(self, data: st.DataObject) -> None:
        caller, peer, request = self.program(data), self.anybody(data), self.number()
        self.model.links = [link for link in self.model.links if link != frozenset({caller, peer})]
        self.ask(caller, m.Unlink(request, peer), [self.reply(caller, request)])

    @precondition(lambda self: self.programs())
    @rule(data=st.data(), trap=st.booleans())
    def set_options(self, data: st.DataObject, trap: bool) -> None:
        pid, request = self.program(data), self.number()
        self.model.beings[pid].trap = trap
        self.ask(pid, m.SetOptions(request, trap), [self.reply(pid, request)])

    @precondition(lambda self: self.programs())
    @rule(data=st.data(), grace=st.sampled_from([None, None, 0, 100, 2000]))
    def cancel(self, data: st.DataObject, grace: int | None) -> None:
        sender = self.programs()[0] if data.draw(st.booleans()) else self.program(data)  # often the same pair again
        target = self.programs()[-1] if data.draw(st.booleans()) else self.anybody(data)
        if target not in self.open_connections():
            live = target in self.model.beings
            expected = self.model.cancel(target, sender, grace, self.now) if live else ()
            self.ask(sender, m.Cancel(target, grace), expected)

    @precondition(lambda self: self.model.workers)
    @rule(data=st.data())
    def mail_is_read(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(list(self.model.workers)))
        self.model.workers[number].unread_cancels.clear()
        self.table.mail_written(number)

    @rule(seconds=st.sampled_from([0.05, 0.1, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        due = sorted((timer for timer in self.timers if timer.deadline <= self.now), key=lambda timer: timer.deadline)
        for timer in due:
            self.timers.remove(timer)
            assert isinstance(timer.event, GraceExpired | PoolRefill)
            being = self.model.beings.get(timer.event.pid) if isinstance(timer.event, GraceExpired) else None
            over = being is not None and being.deadline is not None and being.deadline <= self.now
            expected = self.model.doom(being.pid, bare("killed")) if being is not None and over else ()
            self.settle(self.table.timer_fired(timer.event, self.now), expected)

    @precondition(lambda self: self.programs())
    @rule(data=st.data())
    def terminate(self, data: st.DataObject) -> None:
        sender, target = self.program(data), self.anybody(data)
        expected = self.model.doom(target, bare("killed")) if target in self.model.beings else ()
        self.ask(sender, m.Terminate(target), expected)

    # --- rules: names -------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.programs())
    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def register(self, data: st.DataObject, name: str) -> None:
        self.do_register(self.program(data), self.anybody(data), name)

    def do_register(self, caller: str, target: str, name: str) -> None:
        request = self.number()
        holder = self.model.names.get(name)
        if target not in self.model.beings:
            expected = self.failed(caller, request, "NoProc")
        elif holder is not None and holder[0] != target:
            expected = self.failed(caller, request, "AlreadyExists", holder[0])
        else:
            self.model.names.setdefault(name, (target, caller))
            expected = self.reply(caller, request)
        self.ask(caller, m.Register(request, name, target), [expected])

    @precondition(lambda self: self.programs())
    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def unregister(self, data: st.DataObject, name: str) -> None:
        caller, request = self.program(data), self.number()
        holder = self.model.names.get(name)
        if holder is None:
            expected = self.failed(caller, request, "NotFound")
        elif caller not in holder:
            expected = self.failed(caller, request, "NotPermitted")
        else:
            del self.model.names[name]
            expected = self.reply(caller, request)
        self.ask(caller, m.Unregister(request, name), [expected])

    @precondition(lambda self: self.programs())
    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def lookup(self, data: st.DataObject, name: str) -> None:
        caller, request = self.program(data), self.number()
        held = self.model.names.get(name)
        self.ask(caller, m.Lookup(request, name), [self.reply(caller, request, held[0] if held else None)])

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
        marks = {number: 7 * number for number in numbers}
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
