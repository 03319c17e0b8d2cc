"""The relay session against the invariants 12 to 14: whatever happens, in whatever order."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from wsrelay.gateway.core import session_events as e
from wsrelay.gateway.core.holding import Backlog, HeldBytes
from wsrelay.gateway.core.session import Phase, Session
from wsrelay.gateway.core.session_events import Stream, Target
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.hold import Hold
from wsrelay.kernel.wire.reason import make_reason

from .sessions import BOUND, PID


class SessionMachine(RuleBasedStateMachine):
    """Any sequence of events against the invariants 12 to 14, with a numbered stream."""

    @initialize()
    def start(self) -> None:
        self.serial = 0
        self.alive = {"p1": Target("p1", 1)}
        self.dead: set[str] = set()
        self.next_target = 2
        self.log: list[tuple[int, Any]] = []
        self.sent: list[int] = []
        self.closes: list[int | None] = []
        self.ends: list[str] = []
        self.shared = HeldBytes()
        self.session = Session(
            1, PID, self.alive["p1"], Stream("ws.message", b"\x80", 0.0), Hold("name", 10.0, BOUND), self.shared
        )
        self.resumed: set[int] = set()
        self.awaited = ""
        self.do(e.Opened(0.0))

    def do(self, event: e.Event) -> None:
        for effect in self.session.handle(event):
            if isinstance(effect, e.SendToWorker):
                self.log.append((effect.worker, effect.record))
            elif isinstance(effect, e.AwaitService):
                self.awaited = effect.name
            elif isinstance(effect, e.SendClose):
                self.closes.append(effect.code)
            elif isinstance(effect, e.ReportEnd):
                self.ends.append(effect.reason.kind)

    @property
    def is_open(self) -> bool:
        return self.session.is_open

    @precondition(lambda self: not self.session.cut and (self.session.backlog is None or self.is_held))
    @rule()
    def message(self) -> None:
        self.serial += 1
        if self.is_open:
            self.sent.append(self.serial)
        self.do(e.MessageReceived(str(self.serial)))

    @precondition(lambda self: self.session.backlog is not None and not self.is_held and not self.session.cut)
    @rule()
    def target_takes(self) -> None:
        """The target's channel has room for one more."""
        worker, record = self.session.take_backlog()
        assert f"p{worker}" not in self.dead
        self.log.append((worker, record))

    @rule(own=st.booleans(), name=st.sampled_from(["next", PID]))
    def control(self, own: bool, name: str) -> None:
        sender = self.session.target if own else Target("stranger", 99)
        self.do(e.ControlRequested(sender, name, None, None, None))

    @precondition(lambda self: self.is_held)
    @rule()
    def service_returns(self) -> None:
        assert self.awaited in ("name", "next")
        target = Target(f"p{self.next_target}", self.next_target)
        self.next_target += 1
        self.alive[target.pid] = target
        self.resumed.add(target.worker)
        self.do(e.ServiceReturned(target))

    @precondition(lambda self: self.session.cut)
    @rule(granted=st.booleans())
    def outcome(self, granted: bool) -> None:
        if granted:
            target = Target(f"p{self.next_target}", self.next_target)
            self.next_target += 1
            self.alive[target.pid] = target
            self.do(e.RetargetGranted(target))
        else:
            self.do(e.RetargetRefused("NotFound"))

    @rule(clean=st.booleans(), restarting=st.booleans())
    def target_ends(self, clean: bool, restarting: bool) -> None:
        pid = self.session.target.pid
        if pid not in self.dead:
            self.dead.add(pid)
            was_open = self.is_open and not self.session.cut
            holds = self.session._hold is not None and restarting
            self.do(e.TargetEnded(pid, make_reason("normal" if clean else "exception"), restarting))
            if was_open and holds:  # S56
                assert self.is_held
            elif was_open:  # invariant 14
                assert self.closes == [1012 if restarting else 1000 if clean else 1011]

    @rule(event=st.sampled_from([
        e.CloseReceived(1000, ""), e.CloseReceived(None, ""), e.HalfClosed(), e.ConnectionLost(), e.CloseRequested(4000, ""),
        e.CancelRequested(), e.EndRequested(make_reason("killed")), e.ShutdownStarted(), e.PingTimedOut(),
        e.ClientTooSlow(), e.ProtocolFailed(1002, ""), e.ProtocolFailed(1002, "", True), e.CloseTimedOut(), e.HeartbeatDue(1.0, False),
        e.RetargetRefused("late"), e.RetargetGranted(Target("p1", 1)), e.HoldExpired(), e.ServiceGone(),
    ]))  # fmt: skip
    def anything(self, event: e.Event) -> None:
        if isinstance(event, (e.RetargetRefused, e.RetargetGranted)) and self.session.cut:
            return  # those are `outcome`'s
        self.do(event)

    @invariant()
    def the_session_is_sound(self) -> None:
        self.session.check_invariants()

    @property
    def is_held(self) -> bool:
        return self.session.phase is Phase.HELD

    @invariant()
    def what_is_kept_is_bounded_and_counted(self) -> None:  # S56
        backlog = self.session.backlog
        assert self.shared.used == (backlog._used if isinstance(backlog, Backlog) else 0) <= BOUND

    @invariant()
    def every_target_sees_the_bracket(self) -> None:  # S45, invariant 12
        for worker in {worker for worker, _ in self.log}:
            inside = False
            for record in (record for owner, record in self.log if owner == worker):
                if isinstance(record, m.Join):
                    assert not inside
                    assert record.resumed == (worker in self.resumed)
                    inside = True
                elif isinstance(record, m.Leave):
                    assert inside
                    inside = False
                elif isinstance(record, (m.ClientMessage, m.Heartbeat)):
                    assert inside
            if self.session.phase is Phase.ENDED and f"p{worker}" not in self.dead:
                assert not inside

    @invariant()
    def the_stream_is_partitioned_in_order(self) -> None:  # S46, S47, invariant 13
        received = [int(record.data) for _, record in self.log if isinstance(record, m.ClientMessage)]
        kept = [int(message.data) for message in self.session.backlog._messages] if self.session.backlog else []
        if self.is_open:
            assert received + kept == self.sent
        else:
            assert received == self.sent[: len(received)]
        owners = [worker for worker, record in self.log if isinstance(record, m.ClientMessage)]
        assert owners == sorted(owners)

    @invariant()
    def it_closes_and_ends_once(self) -> None:  # S12, S49
        assert len(self.closes) <= 1
        assert len(self.ends) == (self.session.phase is Phase.ENDED)


TestSessionMachine = SessionMachine.TestCase
