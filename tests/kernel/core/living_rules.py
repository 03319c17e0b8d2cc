"""Rules for the process table and its model: processes start, send, watch, are cancelled and killed, and have names."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from wsrelay.kernel.core.effects import GraceExpired, PoolRefill, SendToGateway, StartWorker
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.reason import WireReason, make_reason

from .comparison import MAX_PROCESSES, NAMES, POOL_SIZES, Comparison
from .model import Being, bare

CLEAN = st.sampled_from([make_reason("normal", value=b"v"), make_reason("cancelled")])


class LivingRules(Comparison):
    """What processes do while they live."""

    # --- rules: starting ----------------------------------------------------------------------------------------------

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
            mark = self.model.late_mark(watcher, target, self.incarnation)
            expected.append(self.model.to(watcher, m.Exit(request, target, bare("noproc"), mark)))
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
            mark = self.model.late_mark(caller, peer, self.incarnation)
            expected.append(self.model.to(caller, m.LinkDown(peer, bare("noproc"), mark)))
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
