"""The checker: it accepts what is right, and rejects, for each invariant, what is deliberately broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.invented import Paper, connection, pid
from wsrelay.kernel.wire import journal_records as j
from wsrelay.tools.faults.checker import INVARIANTS, check, story, tell
from wsrelay.tools.faults.entry import Entry

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


def broken(entries: list[Entry]) -> set[int]:
    """The numbers of the invariants that are violated."""
    violations = check(entries)
    for violation in violations:
        assert violation.evidence
        assert str(violation).startswith(f"invariant {violation.invariant}: ")
    return {violation.invariant for violation in violations}


# --- one by one -------------------------------------------------------------------------------------------------------

A, B, C = pid(1), pid(2), pid(3)
K = connection(1)
SERVICE = j.ServiceConfigured("app:s", "transient", 1.0, 8.0, 2.0, 0.0, 2, 60.0, 5.0, "")


def start() -> Paper:
    """Three processes live."""
    paper = Paper()
    for _ in range(3):
        paper.spawn()
    return paper


def watch_a_group(paper: Paper) -> None:
    paper.supervise(j.GroupWatched(B, 1, "g", ()), j.GroupJoined("g", A, 1), j.GroupTold(B, 1, A, True))
    paper.readable(B, "GROUP", A, ref=1, kind="joined")


def send_and_take(paper: Paper, *topics: str) -> None:
    """A sends, and B takes this."""
    for topic in ("item", "other"):
        paper.write("worker", j.Sent(A, (B,), topic, 1), 100)
        paper.readable(B, "message", A, topic=topic, size=1)
    for topic in topics:
        paper.write("worker", j.Taken(B, "message", A, topic), 101)


def mail_is_not_handed_over(paper: Paper) -> None:
    send_and_take(paper, "item")
    paper.waits(B, takes=False)


def mail_is_handed_over_in_another_order(paper: Paper) -> None:
    send_and_take(paper, "other")


def mail_comes_twice_when_nobody_listens(paper: Paper) -> None:
    paper.write("worker", j.Listened(B, "item"), 101)
    send_and_take(paper, "other", "item")
    paper.write("worker", j.Unlistened(B, "item"), 101)
    paper.write("worker", j.Taken(B, "message", A, "item"), 101)


def heartbeats_pile_up(paper: Paper) -> None:
    paper.readable(A, "message", connection(1), topic="ws.join", epoch=1)
    for _ in range(2):
        paper.readable(A, "message", connection(1), topic="ws.heartbeat", epoch=1)


def removed_monitor_fires(paper: Paper) -> None:
    paper.monitor(A, B, 1)
    paper.unmonitor(A, 1)
    paper.supervise(j.Died(B, "normal", ""), j.ExitTold(A, 1, B, "normal", ""))


def exit_is_read_that_nobody_told(paper: Paper) -> None:
    paper.readable(A, "EXIT", B, ref=1, kind="noproc")


def exit_is_told_and_not_read(paper: Paper) -> None:
    paper.supervise(j.MonitorMade(A, 1, B), j.Died(B, "normal", ""), j.ExitTold(A, 1, B, "normal", ""))
    paper.waits(A)


def observers_differ(paper: Paper) -> None:
    paper.monitor(A, B, 1)
    paper.monitor(C, B, 1)
    died = [j.Died(B, "killed", ""), j.ExitTold(A, 1, B, "killed", ""), j.ExitTold(C, 1, B, "signal:SIGKILL", "")]
    paper.supervise(*died)


def noproc_for_an_early_observer(paper: Paper) -> None:
    paper.monitor(A, B, 1)
    paper.supervise(j.Died(B, "killed", ""), j.ExitTold(A, 1, B, "noproc", ""))


def two_deaths(paper: Paper) -> None:
    paper.supervise(j.Died(B, "killed", ""), j.Died(B, "killed", ""))


def messages_change_places(paper: Paper) -> None:
    for size in (1, 2):
        paper.write("worker", j.Sent(A, (B,), "t", size))
    for size in (2, 1):
        paper.readable(B, "message", A, topic="t", size=size)


def message_comes_twice(paper: Paper) -> None:
    paper.send(A, B, 1)
    paper.readable(B, "message", A, topic="t", size=1)


def numbers_have_a_gap(paper: Paper) -> None:
    for number in (1, 2, 3):
        paper.write("worker", j.NumberSent(A, B, number))
    for number in (1, 3):
        paper.write("worker", j.NumberReceived(B, A, "", number))


def last_words_are_lost(paper: Paper) -> None:
    paper.write("worker", j.Sent(A, (B,), "t", 1))
    paper.die(A, "exception")
    paper.waits(B)


def message_after_exit(paper: Paper) -> None:
    paper.monitor(B, A, 1)
    paper.write("worker", j.Sent(A, (B,), "t", 1))
    paper.die(A, "exception")
    paper.readable(B, "message", A, topic="t", size=1)


def exit_of_a_connection_before_its_leave(paper: Paper) -> None:
    paper.supervise(j.Spawned(K, "connection", "", 0, "", ""), j.MonitorMade(A, 1, K))
    paper.readable(A, "message", K, topic="ws.join", epoch=1)
    paper.supervise(j.Died(K, "normal", ""), j.ExitTold(A, 1, K, "normal", ""))
    paper.readable(A, "EXIT", K, ref=1, kind="normal")
    paper.readable(A, "message", K, topic="ws.leave", epoch=1)


def linked_peer_lives_on(paper: Paper) -> None:
    paper.link(A, B)
    paper.supervise(j.Died(A, "killed", ""))


def trapping_peer_is_not_told(paper: Paper) -> None:
    paper.link(A, B)
    paper.trap(B)
    paper.supervise(j.Died(A, "killed", ""))


def clean_exit_propagates(paper: Paper) -> None:
    paper.link(A, B)
    paper.supervise(j.Died(A, "normal", ""), j.Died(B, "normal", A))


def unlinked_peer_is_told(paper: Paper) -> None:
    paper.trap(B)
    paper.supervise(j.Died(A, "killed", ""), j.LinkDownTold(B, A, "killed", ""))


def the_dead_have_a_name(paper: Paper) -> None:
    paper.name("x", A)
    paper.supervise(j.Died(A, "killed", ""), j.LookedUp("x", B, A))


def the_dead_are_members(paper: Paper) -> None:
    paper.supervise(j.GroupJoined("g", A, 1), j.Died(A, "killed", ""), j.MembersListed("g", B, (B, A)))


def a_watcher_is_not_told(paper: Paper) -> None:
    paper.supervise(j.GroupWatched(B, 1, "g", ()), j.GroupJoined("g", A, 1))


def a_watcher_is_shown_another_group(paper: Paper) -> None:
    paper.supervise(j.GroupJoined("g", A, 1), j.GroupWatched(B, 1, "g", ()))


def a_watcher_is_told_too_much(paper: Paper) -> None:
    watch_a_group(paper)
    paper.supervise(j.GroupTold(B, 1, A, False))


def a_change_is_not_read(paper: Paper) -> None:
    watch_a_group(paper)
    paper.supervise(j.GroupLeft("g", A, 0), j.GroupTold(B, 1, A, False))
    paper.waits(B)


def changes_are_read_in_another_order(paper: Paper) -> None:
    watch_a_group(paper)
    paper.supervise(j.GroupLeft("g", A, 0), j.GroupTold(B, 1, A, False))
    paper.readable(B, "GROUP", A, ref=1, kind="joined")


def two_have_one_name(paper: Paper) -> None:
    paper.supervise(j.Named("x", A), j.Named("x", B))


def a_free_name_is_refused(paper: Paper) -> None:
    paper.supervise(j.NameRefused("x", A, B))


def a_name_leads_elsewhere(paper: Paper) -> None:
    paper.name("x", A)
    paper.supervise(j.LookedUp("x", C, B))


def a_pid_is_reused(paper: Paper) -> None:
    paper.die(A, "normal")
    paper.supervise(j.Spawned(A, "actor", "app:a", 9, "", ""))


def a_stranger_is_signalled(paper: Paper) -> None:
    paper.supervise(j.Signalled(4711, 9, False))


def the_reaped_are_signalled(paper: Paper) -> None:
    paper.supervise(j.Died(A, "killed", ""), j.Reaped(1001), j.Signalled(1001, 9, True))


def terminate_does_nothing(paper: Paper) -> None:
    paper.supervise(j.TerminateAsked(B, A))
    paper.time += 60
    paper.supervise(j.LookedUp("x", B, ""))


def a_killed_worker_takes_its_time(paper: Paper) -> None:
    paper.supervise(j.KillOrdered(1, ""))
    paper.time += 60
    paper.supervise(j.Died(A, "killed", ""))


def a_descendant_is_left(paper: Paper) -> None:
    paper.write("test", j.LeftBehind("sleep 1000", 77))


def a_child_is_not_reaped(paper: Paper) -> None:
    paper.supervise(j.Stopping())


def others_are_slow(paper: Paper) -> None:
    for phase, value in (("undisturbed", 0.05), ("disturbed", 0.2)):
        for _ in range(100):
            paper.write("test", j.Sample("latency", "echo", phase, value))


def memory_is_not_bounded(paper: Paper) -> None:
    paper.write("test", j.Bound("memory", "gateway", 100e6))
    paper.write("test", j.Sample("memory", "gateway", "disturbed", 101e6))


def joins_twice(paper: Paper) -> None:
    for _ in range(2):
        paper.readable(A, "message", K, topic="ws.join", epoch=1)


def message_after_leave(paper: Paper) -> None:
    for topic in ("ws.join", "ws.leave", "ws.message"):
        paper.readable(A, "message", K, topic=topic, epoch=1)


def leave_never_comes(paper: Paper) -> None:
    paper.readable(A, "message", K, topic="ws.join", epoch=1)
    paper.write("gateway", j.ConnectionOver(K, "normal"))
    paper.waits(A)


def fewer_messages_than_were_accepted(paper: Paper) -> None:
    paper.write("gateway", j.Joined(K, A, 1))
    for topic in ("ws.join", "ws.message", "ws.leave"):
        paper.readable(A, "message", K, topic=topic, epoch=1)
    paper.write("gateway", j.Left(K, A, 1, 2, "closed"))


def item_at_two_targets(paper: Paper) -> None:
    paper.client(1, "c", (A, 3), (B, 3))
    paper.write("worker", j.NumberReceived(C, K, "c", 2))


def items_out_of_order(paper: Paper) -> None:
    for number in (1, 2):
        paper.write("test", j.ClientSent("c", number))
    for number in (2, 1):
        paper.write("worker", j.NumberReceived(A, K, "c", number))


def the_tail_is_lost(paper: Paper) -> None:
    paper.client(1, "c", (A, 3))
    last = max(i for i, entry in enumerate(paper.entries) if isinstance(entry.record, j.NumberReceived))
    del paper.entries[last]


def an_item_that_nobody_sent(paper: Paper) -> None:
    paper.client(1, "c", (A, 3))
    paper.write("worker", j.NumberReceived(A, K, "c", 4))


def a_crash_closes_with_1000(paper: Paper) -> None:
    paper.write("gateway", j.CloseSent(K, 1000, "TargetEnded", "signal:SIGSEGV", False))


def a_restart_closes_with_1011(paper: Paper) -> None:
    paper.write("gateway", j.CloseSent(K, 1011, "TargetEnded", "exception", True))


def the_client_sees_another_code(paper: Paper) -> None:
    paper.client(1, "c", (A, 1), cause="CancelRequested", code=1001)
    paper.entries.pop()
    paper.waits(A)
    paper.write("test", j.ClientClosed("c", 1011))


def the_client_sees_1006(paper: Paper) -> None:
    paper.write("test", j.ClientClosed("c", 1006))


def two_close_frames(paper: Paper) -> None:
    for _ in range(2):
        paper.write("gateway", j.CloseSent(K, 1001, "ShutdownStarted", "", False))


def table_keeps_a_monitor(paper: Paper) -> None:
    paper.monitor(A, B, 1)
    paper.unmonitor(A, 1)
    paper.supervise(j.TableSizes((("monitors", 1),)))


def table_leaks_a_name(paper: Paper) -> None:
    paper.name("x", A)
    paper.die(A, "killed")
    paper.supervise(j.TableSizes((("names", 1), ("processes", 2))))


def serve(paper: Paper, *pauses: float, kind: str = "exception") -> None:
    """A service that dies and comes back after each pause."""
    paper.supervise(SERVICE, j.ServiceChanged("app:s", "waiting"))
    for pause in (*pauses, None):
        made = paper.spawn("app:s")
        paper.supervise(j.ServiceChanged("app:s", "starting"), j.ServiceChanged("app:s", "running"))
        if pause is not None:
            paper.die(made, kind)
            paper.supervise(j.ServiceChanged("app:s", "backing off"))
            paper.time += pause


def restart_without_backoff(paper: Paper) -> None:
    serve(paper, 0.0)


def backoff_does_not_grow(paper: Paper) -> None:
    serve(paper, 1.1, 1.1)


def restarts_without_end(paper: Paper) -> None:
    serve(paper, 1.1, 2.1, 4.1)


def transient_comes_back_after_a_clean_exit(paper: Paper) -> None:
    serve(paper, 1.1, kind="normal")


def start_after_stop(paper: Paper) -> None:
    paper.supervise(SERVICE, j.Stopping())
    paper.spawn("app:s")
    for child in (1001, 1002, 1003, 1004):
        paper.supervise(j.Reaped(child))


def failed_service_comes_back(paper: Paper) -> None:
    serve(paper)
    paper.die(paper.live[-1], "exception")
    paper.supervise(j.ServiceChanged("app:s", "failed"))
    paper.time += 100
    paper.spawn("app:s")


def given_up_too_soon(paper: Paper) -> None:
    serve(paper, 1.1)
    paper.die(paper.live[-1], "exception")
    paper.supervise(j.ServiceChanged("app:s", "failed"))


def descriptors_grow(paper: Paper) -> None:
    paper.write("test", j.Sample("descriptors", "gateway", "baseline", 20))
    paper.write("test", j.Sample("descriptors", "gateway", "end", 21))


def memory_grows(paper: Paper) -> None:
    paper.write("test", j.Sample("memory", "supervisor", "baseline", 40e6))
    paper.write("test", j.Sample("memory", "supervisor", "end", 400e6))


def answer(paper: Paper, *received: int) -> None:
    """A handler sends a client three numbered messages; these arrive."""
    conn = paper.client(1, "c", (A, 1))
    for number in (1, 2, 3):
        paper.write("worker", j.NumberSent(A, conn, number))
    for number in received:
        paper.write("test", j.ClientReceived("c", number, A))
    paper.waits(A)


def a_client_misses_an_answer(paper: Paper) -> None:
    answer(paper, 1, 3)


BROKEN: list[tuple[int, Callable[[Paper], Any]]] = [
    (3, a_client_misses_an_answer),
    (1, removed_monitor_fires), (1, exit_is_read_that_nobody_told), (1, exit_is_told_and_not_read),
    (2, observers_differ), (2, noproc_for_an_early_observer), (2, two_deaths),
    (3, messages_change_places), (3, message_comes_twice), (3, numbers_have_a_gap), (3, last_words_are_lost),
    (4, message_after_exit), (4, exit_of_a_connection_before_its_leave),
    (5, linked_peer_lives_on), (5, trapping_peer_is_not_told), (5, clean_exit_propagates), (5, unlinked_peer_is_told),
    (6, the_dead_have_a_name), (6, the_dead_are_members), (6, a_watcher_is_not_told), (6, a_watcher_is_shown_another_group),
    (6, a_watcher_is_told_too_much), (3, a_change_is_not_read), (3, changes_are_read_in_another_order),
    (3, mail_is_not_handed_over), (3, mail_is_handed_over_in_another_order), (3, mail_comes_twice_when_nobody_listens),
    (12, heartbeats_pile_up),
    (7, two_have_one_name), (7, a_free_name_is_refused), (7, a_name_leads_elsewhere),
    (8, a_pid_is_reused), (8, a_stranger_is_signalled), (8, the_reaped_are_signalled),
    (9, terminate_does_nothing), (9, a_killed_worker_takes_its_time),
    (10, a_descendant_is_left), (10, a_child_is_not_reaped),
    (11, others_are_slow), (11, memory_is_not_bounded),
    (12, joins_twice), (12, message_after_leave), (12, leave_never_comes), (12, fewer_messages_than_were_accepted),
    (13, item_at_two_targets), (13, items_out_of_order), (13, the_tail_is_lost), (13, an_item_that_nobody_sent),
    (14, a_crash_closes_with_1000), (14, a_restart_closes_with_1011), (14, the_client_sees_another_code),
    (14, the_client_sees_1006), (14, two_close_frames),
    (15, table_keeps_a_monitor), (15, table_leaks_a_name), (15, restart_without_backoff), (15, backoff_does_not_grow),
    (15, restarts_without_end), (15, transient_comes_back_after_a_clean_exit), (15, start_after_stop),
    (15, failed_service_comes_back), (15, given_up_too_soon), (15, descriptors_grow), (15, memory_grows),
]  # fmt: skip


@pytest.mark.parametrize(("invariant", "happens"), BROKEN, ids=lambda value: getattr(value, "__name__", str(value)))
def test_what_is_broken_is_rejected(invariant: int, happens: Callable[[Paper], Any]) -> None:
    paper = start()
    happens(paper)
    assert invariant in broken(paper.entries)


def test_every_invariant_has_a_broken_journal() -> None:
    assert {invariant for invariant, _ in BROKEN} == set(INVARIANTS) == set(range(1, 16))


# --- what is excused --------------------------------------------------------------------------------------------------


def a_target_dies_with_items(paper: Paper) -> None:
    paper.client(1, "c", (A, 3), (B, 3))
    second = [i for i, entry in enumerate(paper.entries) if isinstance(entry.record, j.NumberReceived)][2]
    del paper.entries[second]
    paper.die(A, "signal:SIGKILL")


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
    a_target_dies_with_items, the_gateway_dies, the_test_cuts_the_line, a_handler_is_busy, a_killed_sender_does_not_finish,
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
