"""The checker rejects what is wrong with how an end is told and read, asked for, and closed; one journal for each way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.invented import Paper
from wsrelay.kernel.wire import journal_records as j

from .scenes import A, B, C, K, broken, start


def noproc_for_an_early_peer(paper: Paper) -> None:
    paper.link(A, B)
    paper.trap(B)
    paper.supervise(j.Died(A, "killed", ""), j.LinkDownTold(B, A, "noproc", ""))


def noproc_is_read_by_an_early_peer(paper: Paper) -> None:
    paper.link(A, B)
    paper.trap(B)
    paper.supervise(j.Died(A, "killed", ""), j.LinkDownTold(B, A, "killed", ""))
    paper.readable(B, "LINK_DOWN", A, kind="noproc")


def link_down_is_told_and_not_read(paper: Paper) -> None:
    paper.link(A, B)
    paper.trap(B)
    paper.supervise(j.Died(A, "killed", ""), j.LinkDownTold(B, A, "killed", ""))
    paper.waits(B)


def link_down_is_read_twice(paper: Paper) -> None:
    paper.link(A, B)
    paper.trap(B)
    paper.die(A, "killed")
    paper.readable(B, "LINK_DOWN", A, kind="killed")


def link_down_is_read_that_nobody_told(paper: Paper) -> None:
    paper.trap(B)
    paper.die(A, "killed")
    paper.readable(B, "LINK_DOWN", A, kind="killed")


def terminate_is_the_last_that_the_supervisor_hears_of(paper: Paper) -> None:
    paper.supervise(j.TerminateAsked(A, B))
    paper.time += 60
    paper.write("test", j.Note("", "a minute later", 0))


def a_free_name_is_refused_as_a_service_has_it(paper: Paper) -> None:
    paper.supervise(j.NameRefused("nobody's", A, ""))


def grace_runs_out_and_nothing_follows(paper: Paper) -> None:
    paper.supervise(j.CancelAsked(A, B, 100))
    paper.time += 60
    paper.supervise(j.LookedUp("x", "", ""))


def bracket(paper: Paper, *, reads: bool = True, kind: str = "closed", died: str = "normal") -> None:
    """A connection comes to A and goes."""
    paper.supervise(j.Spawned(K, "connection", "", 0, "", ""))
    paper.write("gateway", j.Joined(K, A, 1))
    if reads:
        paper.readable(A, "message", K, topic="ws.join", epoch=1)
    paper.write("gateway", j.Left(K, A, 1, 0, "closed"))
    if reads:
        paper.readable(A, "message", K, topic="ws.leave", kind=kind, epoch=1)
    paper.write("gateway", j.ConnectionOver(K, "normal"))
    paper.supervise(j.Died(K, died, ""))
    paper.waits(A)


def a_whole_bracket_is_lost(paper: Paper) -> None:
    bracket(paper, reads=False)


def leave_has_another_reason(paper: Paper) -> None:
    bracket(paper, kind="transferred")


def a_connection_dies_of_what_its_gateway_did_not_say(paper: Paper) -> None:
    bracket(paper, died="killed")


def closes(cause: str, code: int) -> Callable[[Paper], None]:
    def happens(paper: Paper) -> None:
        paper.client(1, "c", (A, 1), cause=cause, code=code)

    happens.__name__ = f"{cause}_closes_with_{code}"
    return happens


BROKEN: list[tuple[int, Callable[[Paper], Any]]] = [
    (2, noproc_for_an_early_peer), (2, noproc_is_read_by_an_early_peer),
    (5, link_down_is_told_and_not_read), (5, link_down_is_read_twice), (5, link_down_is_read_that_nobody_told),
    (9, terminate_is_the_last_that_the_supervisor_hears_of), (7, a_free_name_is_refused_as_a_service_has_it),
    (9, grace_runs_out_and_nothing_follows), (12, a_whole_bracket_is_lost), (12, leave_has_another_reason),
    (2, a_connection_dies_of_what_its_gateway_did_not_say),
    (14, closes("HoldExpired", 1011)), (14, closes("ServiceGone", 1012)), (14, closes("MessageReceived", 1000)),
    (14, closes("HalfClosed", 1011)), (14, closes("ShutdownStarted", 1000)),
]  # fmt: skip


@pytest.mark.parametrize(("invariant", "happens"), BROKEN, ids=lambda value: getattr(value, "__name__", str(value)))
def test_what_is_broken_is_rejected(invariant: int, happens: Callable[[Paper], Any]) -> None:
    paper = start()
    happens(paper)
    assert invariant in broken(paper.entries)


def noproc_for_a_late_peer(paper: Paper) -> None:
    paper.trap(B)
    paper.die(A, "killed")
    for _ in range(2):
        paper.supervise(j.LinkMade(B, A), j.LinkDownTold(B, A, "noproc", ""))
        paper.readable(B, "LINK_DOWN", A, kind="noproc")
    paper.waits(B)


def an_unlinked_peer_reads_none(paper: Paper) -> None:
    paper.link(A, B)
    paper.trap(B)
    paper.supervise(j.Died(A, "killed", ""), j.LinkDownTold(B, A, "killed", ""), j.LinkRemoved(B, A), j.Reaped(1001))
    paper.waits(B)


def the_name_of_a_service_is_refused(paper: Paper) -> None:
    paper.supervise(j.ServiceConfigured("app:s", "transient", 1.0, 8.0, 2.0, 0.0, 2, 60.0, 5.0, "kept"))
    paper.supervise(j.NameRefused("kept", A, ""))


def the_runtime_stops_while_somebody_is_killed(paper: Paper) -> None:
    paper.supervise(j.TerminateAsked(A, B), j.Stopping(), *(j.Reaped(each) for each in (1001, 1002, 1003)))
    paper.time += 60
    paper.write("test", j.Note("", "a minute later", 0))


def a_leave_of_a_lost_gateway(paper: Paper) -> None:
    paper.supervise(j.GatewayLost(1))
    bracket(paper, kind="gateway_lost", died="noconnection")


def grace_is_not_over(paper: Paper) -> None:
    paper.supervise(j.CancelAsked(A, B, 100_000), j.CancelAsked(A, C, -1))
    paper.time += 60
    paper.supervise(j.LookedUp("x", "", ""))


RIGHT = [
    bracket, a_leave_of_a_lost_gateway, grace_is_not_over,
    noproc_for_a_late_peer, an_unlinked_peer_reads_none, the_name_of_a_service_is_refused,
    the_runtime_stops_while_somebody_is_killed, closes("HoldExpired", 1012), closes("ServiceGone", 1011),
    closes("MessageReceived", 1013), closes("HalfClosed", 1007), closes("ShutdownStarted", 1012),
]  # fmt: skip


@pytest.mark.parametrize("happens", RIGHT, ids=lambda value: value.__name__)
def test_what_is_right_is_accepted(happens: Callable[[Paper], Any]) -> None:
    paper = start()
    happens(paper)
    assert broken(paper.entries) == set()
