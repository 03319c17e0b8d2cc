"""The relay session while its target's service restarts: what is kept, for whom, and how it ends (S56)."""

from __future__ import annotations

import pytest
from wsrelay.gateway.core import session_events as e
from wsrelay.gateway.core.holding import MESSAGE_OVERHEAD, HeldBytes
from wsrelay.gateway.core.session import Session
from wsrelay.gateway.core.session_events import Stream, Target
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.hold import Hold
from wsrelay.kernel.wire.reason import make_reason

from .sessions import NEW, OLD, PID, closes, control, ends, hand_over, to_workers

DEATH = e.TargetEnded("old", make_reason("exception"), restarting=True)


def held(bound: int = 1 << 20, shared: HeldBytes | None = None) -> Session:
    """A session whose target's service restarts."""
    session = Session(1, PID, OLD, Stream("ws.message", b"\x80", 1.0), Hold("room", 10.0, bound), shared)
    session.handle(e.Opened(5.0))
    assert session.handle(DEATH) == [e.SetHeartbeat(0.0), e.AwaitService("room"), e.SetHold(10.0)]
    return session


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
