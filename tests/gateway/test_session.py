"""The relay session against its rules: whatever happens in whatever order (S45 to S52, S56, invariants 12 to 14)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from wsrelay.gateway.core import session_events as e
from wsrelay.gateway.core.holding import MESSAGE_OVERHEAD, Backlog, HeldBytes
from wsrelay.gateway.core.session import Phase, Session
from wsrelay.gateway.core.session_events import Stream, Target
from wsrelay.gateway.core.transfers import MAX_TRANSFERS_WAITING
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.hold import Hold
from wsrelay.kernel.wire.reason import make_reason

PID = "{node@app:gateway|00000000000000aa.g1.1}"
OLD, NEW = Target("old", 1), Target("new", 2)


def opened(heartbeat: float = 0.0) -> Session:
    session = Session(1, PID, OLD, Stream("ws.message", b"\x80", heartbeat))
    effects = session.handle(e.Opened(5.0))
    assert effects == [e.SendToWorker(1, m.Join(1, PID, "ws.message", b"\x80", False)), e.SetHeartbeat(heartbeat)]
    return session


def control(sender: Target = OLD, target: str = "new", **fields: Any) -> e.ControlRequested:
    return e.ControlRequested(sender, target, **{"topic": None, "metadata": None, "heartbeat": None, **fields})


def closes(effects: list[e.Effect]) -> list[tuple[int | None, str]]:
    return [(effect.code, effect.reason) for effect in effects if isinstance(effect, e.SendClose)]


def ends(effects: list[e.Effect]) -> list[str]:
    return [effect.reason.kind for effect in effects if isinstance(effect, e.ReportEnd)]


def to_workers(effects: list[e.Effect]) -> list[tuple[int, Any]]:
    return [(effect.worker, effect.record) for effect in effects if isinstance(effect, e.SendToWorker)]


@pytest.mark.parametrize(
    ("event", "code", "leave", "completed", "timed_out"),
    [
        (e.CloseRequested(1000, "bye"), 1000, "closed", "normal", "ws_closed:1006"),  # S49, S50, S51
        (e.CloseRequested(4001, "bye"), 4001, "closed", "ws_closed:4001", "ws_closed:4001"),
        (e.CancelRequested(), 1001, "cancelled", "cancelled", "cancelled"),
        (e.EndRequested(make_reason("killed")), 1011, "terminated", "killed", "killed"),
        (e.EndRequested(make_reason("exit:3")), 1011, "terminated", "exit:3", "exit:3"),
        (e.ShutdownStarted(), 1001, "shutdown", "normal", "ws_closed:1006"),
        (e.ShutdownStarted(1012), 1012, "shutdown", "ws_closed:1012", "ws_closed:1012"),
        (e.PingTimedOut(), 1011, "timeout", "ws_closed:1011", "ws_closed:1011"),  # S55
        (e.ClientTooSlow(), 1013, "slow_client", "ws_closed:1013", "ws_closed:1013"),  # S54
        (e.TargetTooSlow(), 1013, "timeout", "ws_closed:1013", "ws_closed:1013"),  # S53
        (e.ProtocolFailed(1002, ""), 1002, "protocol_error", "ws_closed:1002", "ws_closed:1002"),
        (e.ProtocolFailed(1007, ""), 1007, "protocol_error", "ws_closed:1007", "ws_closed:1007"),
        (e.ProtocolFailed(1009, ""), 1009, "too_big", "ws_closed:1009", "ws_closed:1009"),
    ],
)
def test_each_close_has_its_code_its_leave_and_its_reason(
    event: e.Event, code: int, leave: str, completed: str, timed_out: str
) -> None:
    for answer, exit_kind in ((e.CloseReceived(1000, ""), completed), (e.CloseTimedOut(), timed_out)):
        session = opened()
        effects = session.handle(event)
        assert [sent for sent, _ in closes(effects)] == [code]
        assert e.AwaitClose() in effects
        assert session.handle(e.MessageReceived("late")) == []  # S46
        effects = session.handle(answer)
        assert to_workers(effects) == [(1, m.Leave(1, leave, code))]  # S45
        assert ends(effects) == [exit_kind]
        assert session.handle(e.ConnectionLost()) == []


def test_what_came_before_a_violation_can_be_answered() -> None:  # S46, S49
    for last in (e.ConnectionLost(), e.CloseTimedOut()):
        session = opened()
        session.handle(e.MessageReceived("whole"))
        [waits] = session.handle(e.ProtocolFailed(1002, ""))
        assert isinstance(waits, e.AwaitAnswers)
        assert session.is_open
        effects = [] if isinstance(last, e.ConnectionLost) else session.handle(waits.then)
        assert [code for code, _ in closes(effects)] == [1002] * bool(effects)
        effects = session.handle(last)
        assert to_workers(effects) == [(1, m.Leave(1, "protocol_error", 1002))]  # S45
        assert ends(effects) == ["ws_closed:1002"]
    session = opened()
    session.handle(e.MessageReceived("whole"))
    [waits] = session.handle(e.ProtocolFailed(1002, ""))
    ended = e.TargetEnded(OLD.pid, make_reason("normal"), False)
    assert [code for code, _ in closes(session.handle(ended))] == [1000]
    assert isinstance(waits, e.AwaitAnswers)
    assert session.handle(waits.then) == [e.AwaitClose()]


def test_nonsense_for_the_clients_close_ends_the_line_soon() -> (
    None
):  # S46: what can be decoded no more is not waited for
    session = opened()
    session.handle(e.CloseRequested(1014, ""))
    assert session.handle(e.ProtocolFailed(1002, "")) == [e.AwaitClose()]
    assert ends(session.handle(e.ConnectionLost())) == ["ws_closed:1014"]


@pytest.mark.parametrize(
    ("reason", "restarting", "code", "kind"),
    [
        ("normal", False, 1000, "normal"),
        ("cancelled", False, 1000, "normal"),
        ("exception", False, 1011, "ws_closed:1011"),
        ("signal:SIGSEGV", False, 1011, "ws_closed:1011"),
        ("normal", True, 1012, "ws_closed:1012"),
        ("killed", True, 1012, "ws_closed:1012"),
    ],
)
def test_the_targets_end_closes_with_the_code_of_s49(reason: str, restarting: bool, code: int, kind: str) -> None:
    session = opened()
    death = e.TargetEnded("old", make_reason(reason, "/secret/path.py"), restarting)
    effects = session.handle(death)
    assert closes(effects) == [(code, reason)]  # S49: the kind, never the detail
    effects = session.handle(e.CloseReceived(code, ""))
    assert to_workers(effects) == []  # S45: nothing is sent to the dead
    assert ends(effects) == [kind]


@pytest.mark.parametrize(
    ("code", "kind"),
    [(None, "normal"), (1000, "normal"), (1001, "normal"), (1011, "ws_closed:1011"), (4000, "ws_closed:4000")],
)
def test_the_clients_close_is_echoed_and_ends_it(code: int | None, kind: str) -> None:  # S51
    session = opened()
    effects = session.handle(e.CloseReceived(code, "done"))
    assert closes(effects) == [(code, "done")]
    assert to_workers(effects) == [(1, m.Leave(1, "client_closed", code))]
    assert ends(effects) == [kind]
    assert effects[-1] == e.Disconnect(abort=False)


def test_a_cut_line_is_1006_without_a_code() -> None:  # S51
    effects = opened().handle(e.ConnectionLost())
    assert to_workers(effects) == [(1, m.Leave(1, "connection_lost", None))]
    assert ends(effects) == ["ws_closed:1006"]
    assert closes(effects) == []


def test_every_join_of_a_connection_names_the_span_of_its_handshake() -> None:
    trace = (("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"),)
    session = Session(1, PID, OLD, Stream("ws.message", b"\x80", 0.0, trace), Hold("room"))
    [first] = [record for _, record in to_workers(session.handle(e.Opened(5.0)))]
    session.handle(control(target="heir", topic="other", metadata=b"\x81", heartbeat=2.0))
    [(_, leave), (_, second)] = to_workers(session.handle(e.RetargetGranted(NEW)))
    session.handle(e.TargetEnded("new", make_reason("exception"), restarting=True))
    session.handle(e.ServiceReturned(Target("third", 3)))
    [(_, third)] = hand_over(session)
    assert [(record.trace, record.resumed) for record in (first, second, third)] == [
        (trace, False), (trace, False), (trace, True),
    ]  # fmt: skip
    assert isinstance(leave, m.Leave)


def test_a_transfer_cuts_the_stream() -> None:  # S47
    session = opened(heartbeat=1.0)
    session.handle(e.MessageReceived("1"))
    assert session.handle(control(topic="other", metadata=b"\x81", heartbeat=2.0)) == [e.RequestRetarget("new")]
    assert session.cut
    effects = session.handle(e.RetargetGranted(NEW))
    assert effects == [
        e.SendToWorker(1, m.Leave(1, "transferred", None)),
        e.SendToWorker(2, m.Join(1, PID, "other", b"\x81", False)),
        e.SetHeartbeat(2.0),
    ]
    assert to_workers(session.handle(e.MessageReceived("2"))) == [(2, m.ClientMessage(1, "2"))]
    effects = session.handle(e.ConnectionLost())
    assert e.ReportEnd(make_reason("ws_closed:1006"), (1, 2)) in effects  # S14: marks of both


def test_a_failed_transfer_leaves_the_stream_where_it_is() -> None:  # S48
    session = opened()
    session.handle(control())
    effects = session.handle(e.RetargetRefused("NotFound: new"))
    assert to_workers(effects) == [(1, m.ControlError(PID, "new", "NotFound: new"))]
    assert not session.cut
    assert to_workers(session.handle(e.MessageReceived("1"))) == [(1, m.ClientMessage(1, "1"))]


def test_only_the_current_target_transfers() -> None:  # S48
    session = opened()
    [(worker, error)] = to_workers(session.handle(control(sender=Target("stranger", 9))))
    assert worker == 9
    assert "only the current target" in error.error


def test_the_old_targets_death_waits_for_the_outcome() -> None:  # S48
    session = opened()
    session.handle(control())
    assert session.handle(e.TargetEnded("old", make_reason("normal"), False)) == []
    effects = session.handle(e.RetargetGranted(NEW))
    assert [worker for worker, _ in to_workers(effects)] == [2]
    session = opened()
    session.handle(control())
    session.handle(e.TargetEnded("old", make_reason("exception"), False))
    assert closes(session.handle(e.RetargetRefused("NotFound: new"))) == [(1011, "exception")]


def test_a_second_transfer_of_a_dead_target_is_still_tried() -> None:  # S48: in order, one at a time
    session = opened()
    session.handle(control(target="first"))
    session.handle(control(target="second"))
    session.handle(e.TargetEnded("old", make_reason("normal"), False))
    assert e.RequestRetarget("second") in session.handle(e.RetargetRefused("NotFound: first"))
    assert to_workers(session.handle(e.RetargetGranted(NEW)))[0][1].pid == PID


def test_waiting_transfers_are_bounded() -> None:
    session = opened()
    for _ in range(MAX_TRANSFERS_WAITING + 1):
        session.handle(control())
    [(worker, error)] = to_workers(session.handle(control()))
    assert (worker, type(error)) == (1, m.ControlError)


def test_heartbeats_count_and_stop() -> None:  # S55
    session = opened(heartbeat=1.0)
    session.handle(e.MessageReceived(b"x"))
    assert to_workers(session.handle(e.HeartbeatDue(7.5, waiting=False))) == [(1, m.Heartbeat(1, 2.5, 1))]
    assert session.handle(e.HeartbeatDue(8.5, waiting=True)) == []
    assert e.SetHeartbeat(0.0) in session.handle(e.ShutdownStarted())
    assert session.handle(e.HeartbeatDue(9.5, waiting=False)) == []


BOUND = 3 * (MESSAGE_OVERHEAD + 2)
DEATH = e.TargetEnded("old", make_reason("exception"), restarting=True)


def held(bound: int = 1 << 20, shared: HeldBytes | None = None) -> Session:
    """A session whose target's service restarts."""
    session = Session(1, PID, OLD, Stream("ws.message", b"\x80", 1.0), Hold("room", 10.0, bound), shared)
    session.handle(e.Opened(5.0))
    assert session.handle(DEATH) == [e.SetHeartbeat(0.0), e.AwaitService("room"), e.SetHold(10.0)]
    return session


def hand_over(session: Session) -> list[tuple[int, Any]]:
    """What the target gets of the backlog."""
    taken = []
    while session.backlog is not None:
        taken.append(session.take_backlog())
    return taken


def join(resumed: bool = True) -> m.Join:
    return m.Join(1, PID, "ws.message", b"\x80", resumed)


def test_a_held_connection_resumes_with_what_was_sent_meanwhile() -> None:  # S56
    session = held()
    assert (session.is_open, session.bound_to, session.accept_messages(1)) == (True, None, None)
    assert session.handle(e.HeartbeatDue(6.0, waiting=False)) == []  # S55: never outside the bracket
    for data in ("a", b"b", "ü"):
        assert session.handle(e.MessageReceived(data)) == []
    assert session.handle(e.ServiceReturned(NEW)) == [e.SetHold(0.0), e.SetHeartbeat(1.0)]
    assert session.handle(e.HeartbeatDue(6.0, waiting=False)) == []
    assert hand_over(session) == [(2, join()), *((2, m.ClientMessage(1, data)) for data in ("a", b"b", "ü"))]
    assert to_workers(session.handle(e.HeartbeatDue(7.0, waiting=False))) == [(2, m.Heartbeat(1, 2.0, 3))]
    assert session.accept_messages(1) == 2
    effects = session.handle(e.ConnectionLost())
    assert to_workers(effects) == [(2, m.Leave(1, "connection_lost", None))]
    assert e.ReportEnd(make_reason("ws_closed:1006"), (2,)) in effects  # S14: the dead has no mark


@pytest.mark.parametrize(
    ("event", "code", "kind"),
    [
        (e.HoldExpired(), 1012, "ws_closed:1012"),  # S56
        (e.ServiceGone(), 1011, "ws_closed:1011"),  # S49: it ended abnormally, and will not be restarted
        (e.CancelRequested(), 1001, "cancelled"),
        (e.EndRequested(make_reason("killed")), 1011, "killed"),
        (e.ShutdownStarted(), 1001, "normal"),
        (e.PingTimedOut(), 1011, "ws_closed:1011"),
        (e.ClientTooSlow(), 1013, "ws_closed:1013"),
        (e.CloseRequested(4001, "bye"), 4001, "ws_closed:4001"),
        (e.ProtocolFailed(1002, ""), 1002, "ws_closed:1002"),
    ],
)
def test_the_end_of_a_held_connection_is_told_to_nobody_dead(event: e.Event, code: int, kind: str) -> None:  # S45, S56
    session = held()
    session.handle(e.MessageReceived("lost"))
    effects = session.handle(event)
    assert [sent for sent, _ in closes(effects)] == [code]
    assert session.handle(e.ServiceReturned(NEW)) == []
    effects = session.handle(e.CloseReceived(code, ""))
    assert (to_workers(effects), ends(effects)) == ([], [kind])


def test_the_client_of_a_held_connection_may_go() -> None:
    for event, kind in ((e.CloseReceived(1000, ""), "normal"), (e.ConnectionLost(), "ws_closed:1006")):
        session = held()
        effects = session.handle(event)
        assert (to_workers(effects), ends(effects)) == ([], [kind])
        assert session.handle(e.ServiceReturned(NEW)) == []


def test_a_service_that_ended_cleanly_for_good_closes_with_1000() -> None:  # S49
    session = Session(1, PID, OLD, Stream("ws.message", b"\x80", 0.0), Hold("room"))
    session.handle(e.Opened(5.0))
    session.handle(e.TargetEnded("old", make_reason("normal"), restarting=True))
    assert closes(session.handle(e.ServiceGone())) == [(1000, "normal")]
    session = Session(1, PID, OLD, Stream("ws.message", b"\x80", 0.0), Hold("room"))
    session.handle(e.Opened(5.0))
    assert closes(session.handle(e.TargetEnded("old", make_reason("exit:3"), restarting=False))) == [(1011, "exit:3")]


def test_over_its_bound_a_held_connection_is_closed_with_1013() -> None:  # S56
    size = MESSAGE_OVERHEAD + 4
    shared = HeldBytes(limit=3 * size)
    one, two = held(2 * size, shared), held(1 << 20, shared)
    for session in (one, two, one):
        assert session.handle(e.MessageReceived("four")) == []
    assert shared.used == 3 * size
    [(code, _)] = closes(two.handle(e.MessageReceived("")))  # the bound of all together
    assert (code, shared.used) == (1013, 2 * size)
    [(code, _)] = closes(one.handle(e.MessageReceived(b"")))  # its own
    assert (code, shared.used) == (1013, 0)
    assert ends(one.handle(e.CloseReceived(1013, ""))) == ["ws_closed:1013"]


def test_a_second_death_takes_only_what_it_was_handed() -> None:  # S56
    session = held()
    for number in "123":
        session.handle(e.MessageReceived(number))
    session.handle(e.ServiceReturned(NEW))
    assert [session.take_backlog() for _ in range(2)] == [(2, join()), (2, m.ClientMessage(1, "1"))]
    effects = session.handle(e.TargetEnded("new", make_reason("exception"), restarting=True))
    assert effects == [e.SetHeartbeat(0.0), e.AwaitService("room"), e.SetHold(10.0)]
    session.handle(e.MessageReceived("4"))
    session.handle(e.ServiceReturned(Target("third", 3)))
    assert hand_over(session) == [(3, join()), *((3, m.ClientMessage(1, number)) for number in "234")]


def test_a_process_that_dies_before_it_is_joined_takes_nothing() -> None:  # S56
    session = held()
    session.handle(e.MessageReceived("1"))
    session.handle(e.ServiceReturned(NEW))
    session.handle(e.TargetEnded("new", make_reason("exception"), restarting=True))
    session.handle(e.ServiceReturned(Target("third", 3)))
    assert hand_over(session) == [(3, join()), (3, m.ClientMessage(1, "1"))]


def test_who_was_not_joined_is_not_left() -> None:  # S45
    session = held()
    session.handle(e.ServiceReturned(NEW))
    assert to_workers(session.handle(e.ConnectionLost())) == []
    session = held()
    session.handle(e.MessageReceived("1"))
    session.handle(e.ServiceReturned(NEW))
    session.handle(control(sender=NEW, target="other"))
    assert session.cut
    effects = session.handle(e.RetargetGranted(Target("other", 3)))
    assert to_workers(effects) == [(3, join(resumed=False))]
    assert hand_over(session) == [(3, m.ClientMessage(1, "1"))]  # S47: what was not handed over moves along


def test_only_a_transfer_to_a_name_keeps_the_hold() -> None:  # S47, S56
    pid = "{node@app:processes|00000000000000aa.s.7}"
    for target, codes in (("other", []), (pid, [1012])):
        session = Session(1, PID, OLD, Stream("ws.message", b"\x80", 0.0), Hold("room"))
        session.handle(e.Opened(5.0))
        session.handle(control(target=target))
        session.handle(e.RetargetGranted(NEW))
        effects = session.handle(e.TargetEnded("new", make_reason("exception"), restarting=True))
        assert [code for code, _ in closes(effects)] == codes
        assert [effect.name for effect in effects if isinstance(effect, e.AwaitService)] == ([] if codes else ["other"])


def test_a_failed_transfer_of_a_dead_target_is_followed_by_the_hold() -> None:  # S48, S56
    session = Session(1, PID, OLD, Stream("ws.message", b"\x80", 0.0), Hold("room"))
    session.handle(e.Opened(5.0))
    session.handle(control())
    assert session.handle(DEATH) == []
    assert e.AwaitService("room") in session.handle(e.RetargetRefused("NotFound: new"))
    [(worker, error)] = to_workers(session.handle(control(sender=Target("stranger", 9))))
    assert (worker, type(error)) == (9, m.ControlError)


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
        e.CloseReceived(1000, ""), e.CloseReceived(None, ""), e.ConnectionLost(), e.CloseRequested(4000, ""),
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
