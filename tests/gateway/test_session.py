"""The relay session against its rules, one by one (S45 to S55)."""

from __future__ import annotations

import pytest
from wsrelay.gateway.core import session_events as e
from wsrelay.gateway.core.session import Session
from wsrelay.gateway.core.session_events import Stream, Target
from wsrelay.gateway.core.transfers import MAX_TRANSFERS_WAITING
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.hold import Hold
from wsrelay.kernel.wire.reason import make_reason

from .sessions import NEW, OLD, PID, closes, control, ends, hand_over, opened, to_workers


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


def test_a_violation_and_then_a_half_closed_line() -> None:  # S49: the client may read on
    session = opened()
    session.handle(e.MessageReceived("whole"))
    assert session.handle(e.HalfClosed()) == []
    [waits] = session.handle(e.ProtocolFailed(1002, ""))
    assert isinstance(waits, e.AwaitAnswers)
    assert [code for code, _ in closes(session.handle(e.HalfClosed()))] == [1002]
    assert session.handle(waits.then) == [e.AwaitClose()]
    assert ends(session.handle(e.ConnectionLost())) == ["ws_closed:1002"]


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
    effects = session.handle(e.CloseReceived(1000, ""))
    assert e.ReportEnd(make_reason("normal"), (1, 9)) in effects  # S14: the stranger's mark too


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
