"""The checker: it accepts what is right, and what a fault excuses; and it finds what is broken in journals of any kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.invented import Paper, connection
from wsrelay.kernel.wire import journal_records as j
from wsrelay.tools.faults.checker import check, story, tell
from wsrelay.tools.faults.entry import Entry

from .scenes import A, B, C, answer, broken, send_and_take, serve, start, watch_a_group

KINDS = ("normal", "cancelled", "exception", "signal:SIGKILL", "killed", "exit:3")


@st.composite
def good_journals(draw: st.DrawFn) -> Paper:
    """Journals of processes that watch, link, name, send and die, and of clients that are handed on."""
    paper = Paper()
    for _ in range(draw(st.integers(2, 4))):
        paper.spawn()
    for ref in range(1, draw(st.integers(1, 25))):
        live = st.sampled_from(paper.live)
        anybody = st.sampled_from(paper.live + paper.dead)
        match draw(st.integers(0, 9)):
            case 0:
                paper.spawn()
            case 1 | 2:
                paper.monitor(draw(live), draw(anybody), ref)
            case 3 if paper.monitors:
                paper.unmonitor(*draw(st.sampled_from(sorted(paper.monitors))))
            case 4:
                paper.link(draw(live), draw(live))
            case 5:
                paper.trap(draw(live))
            case 6:
                paper.name(draw(st.sampled_from("xyz")), draw(live))
            case 7:
                paper.send(draw(live), draw(anybody), draw(st.integers(0, 5)))
            case 8 if len(paper.live) > 1:
                paper.die(draw(live), draw(st.sampled_from(KINDS)))
                if not paper.live:
                    paper.spawn()
            case _:
                paper.look_up(draw(st.sampled_from("xyz")))
    parts = draw(st.lists(st.tuples(st.sampled_from(paper.live), st.integers(0, 4)), max_size=3))
    if parts:
        paper.client(1, "c", *parts)
    return paper


@given(good_journals())
def test_what_is_right_is_accepted(paper: Paper) -> None:
    assert check(paper.entries) == []


def without(entries: list[Entry], index: int) -> list[Entry]:
    return entries[:index] + entries[index + 1 :]


@given(good_journals(), st.data())
def test_an_exit_that_is_not_told_or_told_twice_is_found(paper: Paper, data: st.DataObject) -> None:
    told = [index for index, entry in enumerate(paper.entries) if isinstance(entry.record, j.ExitTold)]
    if told:
        index = data.draw(st.sampled_from(told))
        assert 1 in broken(without(paper.entries, index))
        assert 1 in broken([*paper.entries[: index + 1], *paper.entries[index:]])


@given(good_journals(), st.data())
def test_a_death_without_its_followers_is_found(paper: Paper, data: st.DataObject) -> None:
    inherited = [
        index for index, entry in enumerate(paper.entries) if isinstance(entry.record, j.Died) and entry.record.origin
    ]
    if inherited:
        index = data.draw(st.sampled_from(inherited))
        assert 5 in broken(without(paper.entries, index))


@given(good_journals(), st.data())
def test_a_message_that_is_lost_in_the_midst_is_found(paper: Paper, data: st.DataObject) -> None:
    received = [i for i, entry in enumerate(paper.entries) if isinstance(entry.record, j.NumberReceived)]
    if len(received) > 2:
        index = data.draw(st.sampled_from(received[1:-1]))
        assert 13 in broken(without(paper.entries, index))


@given(good_journals(), st.data())
def test_a_leave_that_is_lost_is_found(paper: Paper, data: st.DataObject) -> None:
    leaves = [
        i
        for i, entry in enumerate(paper.entries)
        if isinstance(entry.record, j.Readable) and entry.record.topic == "ws.leave"
    ]
    if leaves:
        assert 12 in broken(without(paper.entries, data.draw(st.sampled_from(leaves))))


@given(good_journals(), st.data())
def test_a_leave_that_the_gateway_does_not_write_is_found(paper: Paper, data: st.DataObject) -> None:  # S45
    leaves = [i for i, entry in enumerate(paper.entries) if isinstance(entry.record, j.Left)]
    if leaves:
        index = data.draw(st.sampled_from(leaves))
        assert 12 in broken(without(paper.entries, index))
        assert 12 in broken([*paper.entries[: index + 1], *paper.entries[index:]])


# --- what is excused --------------------------------------------------------------------------------------------------


def a_target_dies_with_items(paper: Paper) -> None:
    paper.client(1, "c", (A, 3), (B, 3))
    second = [i for i, entry in enumerate(paper.entries) if isinstance(entry.record, j.NumberReceived)][2]
    del paper.entries[second]
    paper.die(A, "signal:SIGKILL")


def a_target_dies_and_is_not_told_of_the_end(paper: Paper) -> None:
    paper.write("gateway", j.Joined(connection(2), A, 1))
    paper.die(A, "signal:SIGKILL")
    paper.write("gateway", j.Left(connection(2), A, 1, 0, ""))
    paper.write("gateway", j.ConnectionOver(connection(2), "ws_closed:1011"))


def the_gateway_dies_with_a_bracket(paper: Paper) -> None:
    paper.write("gateway", j.Joined(connection(2), A, 1))
    paper.supervise(j.GatewayLost(1))


def the_gateway_dies(paper: Paper) -> None:
    paper.supervise(j.GatewayLost(1))
    paper.write("test", j.ClientClosed("c", 1006))


def the_test_cuts_the_line(paper: Paper) -> None:
    paper.write("test", j.ClientCut("c"))
    paper.write("test", j.ClientClosed("c", 1006))


def a_handler_is_busy(paper: Paper) -> None:
    paper.write("worker", j.Sent(A, (B,), "t", 1))
    paper.supervise(j.MonitorMade(B, 1, A), j.Died(A, "normal", ""), j.ExitTold(B, 1, A, "normal", ""))


def a_killed_sender_does_not_finish(paper: Paper) -> None:
    paper.write("worker", j.Sent(A, (B,), "t", 1))
    paper.die(A, "signal:SIGKILL")
    paper.waits(B)


def a_service_comes_back_as_it_should(paper: Paper) -> None:
    serve(paper, 1.1, 2.1)


def a_service_is_given_up_and_started_again(paper: Paper) -> None:
    serve(paper, 1.1, 2.1)
    paper.die(paper.live[-1], "exception")
    paper.supervise(j.ServiceChanged("app:s", "failed"))
    serve(paper, 1.1, 2.1)


def a_connection_is_handed_back(paper: Paper) -> None:
    paper.client(1, "c", (A, 3), (B, 2), (A, 2))


def groups_are_watched(paper: Paper) -> None:
    """The end of a member may be told before its death is written; who is dead, or watches no more, is told nothing."""
    watch_a_group(paper)
    paper.supervise(j.GroupTold(B, 1, A, False), j.Died(A, "killed", ""))
    paper.readable(B, "GROUP", A, ref=1, kind="left")
    paper.waits(B)
    paper.supervise(j.GroupUnwatched(B, 1), j.GroupJoined("g", B, 1))
    paper.supervise(j.GroupWatched(C, 2, "g", (B,)), j.Died(C, "killed", ""), j.GroupLeft("g", B, 0))


def a_handler_listens(paper: Paper) -> None:
    """It takes the other topic first, and then waits for all but what it listens to."""
    paper.write("worker", j.Listened(B, "item"), 101)
    send_and_take(paper, "other")
    paper.waits(B, takes=False)


def a_handler_listens_no_more(paper: Paper) -> None:
    paper.write("worker", j.Listened(B, "item"), 101)
    send_and_take(paper, "other")
    paper.write("worker", j.Unlistened(B, "item"), 101)
    paper.write("worker", j.Taken(B, "message", A, "item"), 101)
    paper.waits(B, takes=False)


def the_supervisor_is_killed(paper: Paper) -> None:
    paper.monitor(A, B, 1)
    paper.link(A, B)
    paper.write("test", j.FaultInjected("KillSupervisor", 10))
    paper.supervise(j.Died(B, "killed", ""))
    paper.write("test", j.ClientClosed("c", 1006))


def the_supervisor_is_killed_with_mail(paper: Paper) -> None:
    paper.write("test", j.FaultInjected("KillSupervisor()", 10))
    paper.write("worker", j.Sent(A, (B,), "t", 1))
    paper.supervise(j.MonitorMade(B, 1, C), j.Died(C, "normal", ""), j.ExitTold(B, 1, C, "normal", ""))
    paper.waits(B)


def a_client_gets_a_prefix(paper: Paper) -> None:
    answer(paper, 1, 2)


GOOD = [
    a_target_dies_with_items, a_target_dies_and_is_not_told_of_the_end, the_gateway_dies, the_gateway_dies_with_a_bracket, the_test_cuts_the_line, a_handler_is_busy, a_killed_sender_does_not_finish,
    a_service_comes_back_as_it_should, a_service_is_given_up_and_started_again, a_connection_is_handed_back, the_supervisor_is_killed,
    the_supervisor_is_killed_with_mail, a_client_gets_a_prefix, groups_are_watched, a_handler_listens, a_handler_listens_no_more,
]  # fmt: skip


@pytest.mark.parametrize("happens", GOOD, ids=lambda value: value.__name__)
def test_what_faults_excuse_is_accepted(happens: Callable[[Paper], Any]) -> None:
    paper = start()
    happens(paper)
    violations = check(paper.entries)
    assert not violations, "\n".join(map(str, violations))


def test_a_story_is_all_that_names_a_process() -> None:
    paper = start()
    paper.monitor(A, B, 7)
    paper.send(C, A, 1)
    paper.supervise(j.MembersListed("g", C, (C, B)))
    paper.die(B, "killed")
    told = story(paper.entries, B)
    names = [type(entry.record).__name__ for entry in told]
    assert names == ["Spawned", "Born", "MonitorMade", "MembersListed", "Died", "ExitTold", "Readable"]
    assert "MonitorMade(watcher='s.1', ref=7, pid='s.2')" in tell(told)
