"""The checker rejects, for each invariant, what is deliberately broken, one journal for each way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.invented import Paper, connection
from wsrelay.kernel.wire import journal_records as j
from wsrelay.tools.faults.checker import INVARIANTS

from .scenes import SERVICE, A, B, C, K, answer, broken, send_and_take, serve, start, watch_a_group


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


def the_gateway_leaves_nobody(paper: Paper) -> None:
    paper.write("gateway", j.Joined(K, A, 1))
    paper.write("gateway", j.ConnectionOver(K, "normal"))


def the_gateway_joins_the_next_before_it_leaves(paper: Paper) -> None:
    paper.write("gateway", j.Joined(K, A, 1))
    paper.write("gateway", j.Joined(K, B, 2))


def the_gateway_leaves_twice(paper: Paper) -> None:
    paper.write("gateway", j.Joined(K, A, 1))
    for _ in range(2):
        paper.write("gateway", j.Left(K, A, 1, 0, "closed"))


def the_gateway_leaves_another(paper: Paper) -> None:
    paper.write("gateway", j.Joined(K, A, 1))
    paper.write("gateway", j.Left(K, B, 1, 0, "closed"))


def no_leave_is_written_to_who_lives(paper: Paper) -> None:
    paper.write("gateway", j.Joined(K, A, 1))
    paper.write("gateway", j.Left(K, A, 1, 0, ""))
    paper.die(A, "killed")


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
    (12, the_gateway_leaves_nobody), (12, the_gateway_joins_the_next_before_it_leaves), (12, the_gateway_leaves_twice),
    (12, the_gateway_leaves_another), (12, no_leave_is_written_to_who_lives),
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
