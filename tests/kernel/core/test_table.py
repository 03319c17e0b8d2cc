"""The process table's sharp edges, rule by rule."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from wsrelay.kernel.core.effects import KillWorker, SendToGateway, SendToWorker, StartWorker
from wsrelay.kernel.core.endings import WaitStatus
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.reason import make_reason

from .node import EPOCH, GATEWAY, SIGKILL, STRANGER, Node

ERROR = make_reason("exception", "ValueError: no", error="Traceback")


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def root(node: Node) -> str:
    """An actor without parent or relations."""
    invocation = node.invoke()
    root = node.spawn(invocation)
    node.returns(invocation)
    return root


# --- spawn ------------------------------------------------------------------------------------------------------------


def test_spawn_is_addressable_before_its_answer(node: Node, root: str) -> None:  # S3
    child = node.spawn(root)
    assert [type(effect) for effect in node.log] == [StartWorker, SendToWorker]
    node.says(root, m.Send((child,), "hello", b"payload"))
    assert node.to(child) == [m.Deliver(root, "hello", b"payload")]


def test_a_parent_that_dies_mid_spawn_takes_its_linked_child_along(node: Node, root: str) -> None:  # S4
    child = node.spawn(root, link=True)  # the last frame that was drained
    node.dies(root, WaitStatus(None, signal.SIGSEGV))
    assert node.killed() == [node.worker[child]]
    reason = node.dies(child)
    assert (reason.kind, reason.origin) == ("signal:SIGSEGV", root)


def test_a_monitored_child_that_dies_at_once_gives_its_real_reason(node: Node, root: str) -> None:  # S4
    child = node.spawn(root, monitor=True)
    ref = node.requests
    reason = node.dies(child, WaitStatus(1), ERROR)
    assert reason == ERROR
    assert node.to(root) == [m.Exit(ref, child, ERROR, None)]


def test_a_child_that_cannot_be_forked_is_an_ordinary_death(node: Node, root: str) -> None:  # S3, S41a
    child = node.spawn(root, monitor=True, link=True)
    node.trap(root)
    node.done(node.table.worker_failed(node.worker[child], "host_lost", node.now))
    assert {type(record): record[-2].kind for record in node.to(root)} == {
        m.Exit: "noconnection",
        m.LinkDown: "noconnection",
    }


@pytest.mark.parametrize(
    ("entry", "host", "words"),
    [
        ("t:nothing", "t:host", ["t:nothing", "process.python", "namespace:name"]),
        ("t:actor", "t:nowhere", ["t:nowhere", "process.host", "namespace:name"]),
    ],
)
def test_an_unknown_entry_or_host(node: Node, root: str, entry: str, host: str, words: list[str]) -> None:  # S3
    [failed] = node.says(root, m.Spawn(node.number(), entry, host, b"", True, True))
    assert failed[1] == "NotFound"
    assert all(word in failed[2] for word in words)
    assert node.table.actors() == 1


def test_a_full_host(node: Node, root: str) -> None:  # S3
    last = [node.spawn(root) for _ in range(2)][-1]
    [failed] = node.says(root, m.Spawn(node.number(), "t:actor", "t:host", b"", True, True))
    assert failed[1] == "LimitExceeded"
    assert "t:host" in failed[2]
    assert "max_processes" in failed[2]
    node.dies(last, WaitStatus(0), make_reason("normal"))
    node.spawn(root)


# --- sending ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", ["@exit", "@", "ws.join", "ws.leave", "ws.heartbeat", "x" * (m.MAX_TOPIC + 1)])
def test_reserved_topics(node: Node, root: str, topic: str) -> None:  # S9, S11
    assert node.says(root, m.Send((root,), topic, b"")) == []
    assert node.killed() == [node.worker[root]]
    assert node.dies(root).kind == "protocol"


def test_the_fast_path_is_for_a_message_that_is_only_handed_on(node: Node, root: str) -> None:  # S6, S8, S9, S35
    child, connection = node.spawn(root), node.admit(root, 1)
    assert node.table.mail_route(node.worker[root], child) == (root, node.worker[child])
    assert node.table.mail_route(node.worker[root], root) == (root, node.worker[root])
    assert node.table.mail_route(node.worker[root], STRANGER) is None
    assert node.table.mail_route(node.worker[root], connection) is None
    assert node.table.mail_route(10**6, child) is None
    node.says(root, m.Upgrade(7, None, b""))
    assert node.table.mail_route(node.worker[root], child) is None
    assert node.table.mail_route(node.worker[child], root) == (child, node.worker[root])


def test_a_message_to_a_connection_on_control_is_a_violation(node: Node, root: str) -> None:  # S6, S9
    connection = node.admit(root, 1)
    node.says(root, m.Send((connection,), "ws.send", b""))
    assert node.killed() == [node.worker[root]]


def test_cancel_of_a_connection_on_control_is_a_violation(node: Node, root: str) -> None:  # S6
    node.says(root, m.Cancel(node.admit(root, 1), None))
    assert node.killed() == [node.worker[root]]


def test_the_dead_among_the_destinations_are_skipped(node: Node, root: str) -> None:  # S8
    assert node.says(root, m.Send((STRANGER, root), "t", b"x")) == [m.Deliver(root, "t", b"x")]


# --- monitors ---------------------------------------------------------------------------------------------------------


def test_monitors_stack_and_each_fires_once(node: Node, root: str) -> None:  # S19, S21, S22
    child = node.spawn(root)
    refs = [node.monitor(root, child) for _ in range(3)]
    node.says(root, m.Unmonitor(node.number(), refs[1]))
    node.dies(child, WaitStatus(0), make_reason("normal"))
    assert [record[0] for record in node.to(root)] == [refs[0], refs[2]]


def test_all_monitors_of_one_process_can_be_ended(node: Node, root: str) -> None:  # S19, S21
    child, other = node.spawn(root), node.spawn(root)
    for _ in range(3):
        node.monitor(root, child)
    ref = node.monitor(root, other)
    node.says(root, m.UnmonitorAll(node.number(), child))
    node.dies(child)
    assert node.to(root) == []
    node.dies(other)
    assert [record[0] for record in node.to(root)] == [ref]


def test_a_late_monitor_is_answered_first(node: Node, root: str) -> None:  # S20
    for pid in (STRANGER, "{n@t:host|ffffffffffffffff.s.1}"):  # S1
        reply, notice = node.says(root, m.Monitor(node.number(), pid))
        assert isinstance(reply, m.Reply)
        assert isinstance(notice, m.Exit)
        assert (notice.ref, notice.pid, notice.reason.kind) == (reply.request, pid, "noproc")


def test_a_malformed_pid(node: Node, root: str) -> None:
    for record in (
        m.Monitor(node.number(), "nobody"),
        m.Link(node.number(), "{}"),
        m.Register(node.number(), "a", "a"),
    ):
        [failed] = node.says(root, record)
        assert failed[1] == "Invalid"


def test_a_self_monitor_tells_nobody(node: Node, root: str) -> None:  # S22
    node.monitor(root, root)
    node.dies(root)
    assert node.to(root) == []


def test_a_ref_is_of_one_monitor(node: Node, root: str) -> None:  # S19
    earlier, ref = node.number(), node.monitor(root, root)
    node.says(root, m.Monitor(earlier, root))  # by a signal handler's interrupted caller: refs need not rise
    node.says(root, m.Monitor(ref, root))
    assert node.dies(root).kind == "protocol"


def test_monitors_vanish_with_the_watcher(node: Node, root: str) -> None:  # S22
    child = node.spawn(root, monitor=True)
    node.dies(root)
    assert node.killed() == []
    node.dies(child)
    assert not [effect for effect in node.log if isinstance(effect, SendToWorker)]


# --- links ------------------------------------------------------------------------------------------------------------


def test_a_self_link_does_nothing(node: Node, root: str) -> None:  # S23
    node.link(root, root)
    assert node.table.statistics()["links"] == 0
    node.dies(root)


def test_links_are_a_set_and_either_side_unlinks(node: Node, root: str) -> None:  # S23, S27
    child = node.spawn(root, link=True)
    node.link(root, child)
    node.link(child, root)
    node.says(child, m.Unlink(node.number(), root))
    node.dies(child)
    assert node.killed() == []


def test_linking_to_the_dead(node: Node, root: str) -> None:  # S24
    request = node.number()
    [failed] = node.says(root, m.Link(request, STRANGER))
    assert (failed[0], failed[1]) == (request, "NoProc")
    node.trap(root)
    request = node.number()
    reply, down = node.says(root, m.Link(request, STRANGER))
    assert reply == m.Reply(request, None)
    assert (down[0], down[1].kind) == (STRANGER, "noproc")


def test_the_origin_stays_that_of_the_first_death(node: Node, root: str) -> None:  # S25
    child = node.spawn(root, link=True)
    grandchild = node.spawn(child, link=True)
    node.monitor(root, grandchild)
    node.trap(root)
    first = node.dies(child, WaitStatus(1), ERROR)
    assert node.killed() == [node.worker[grandchild]]
    assert node.to(root) == [m.LinkDown(child, ERROR, None)]
    connection = node.admit(grandchild, 1)
    node.link(grandchild, connection)
    second = node.dies(grandchild)
    assert second == first._replace(origin=child)
    assert node.to_gateway()[-1] == m.EndConnection(connection, second)


def test_clean_exits_propagate_nothing(node: Node, root: str) -> None:  # S25
    for kind in ("normal", "cancelled"):
        child = node.spawn(root, link=True)
        node.dies(child, WaitStatus(0), make_reason(kind))
        assert node.killed() == []
        assert node.to(root) == []


def test_names_and_relations_go_before_the_notices(node: Node, root: str) -> None:  # S15
    child = node.spawn(root, monitor=True)
    node.says(child, m.Register(node.number(), "room", child))
    node.dies(child)
    kinds = [type(getattr(effect, "record", effect)).__name__ for effect in node.log]
    assert kinds == ["WorkerEnded", "ProcessEnded", "Exit"]
    request = node.number()
    assert node.says(root, m.Lookup(request, "room")) == [m.Reply(request, None)]


# --- cancel and terminate ---------------------------------------------------------------------------------------------


def test_the_earliest_grace_wins(node: Node, root: str) -> None:  # S29, S10
    child = node.spawn(root)
    node.says(root, m.Cancel(child, 500))
    assert node.to(child) == [m.CancelSignal(root, 500)]
    [late] = node.timers()
    node.says(root, m.Cancel(child, 100))
    assert node.to(child) == [], "at most one waits"
    [early] = node.timers()
    node.says(root, m.Cancel(child, 900))
    assert node.log == []
    node.now = early.deadline
    node.done(node.table.timer_fired(early.event, node.now))
    assert node.killed() == [node.worker[child]]
    assert node.table.timer_fired(late.event, late.deadline) == []
    assert node.dies(child).kind == "killed"
    assert node.table.timer_fired(late.event, late.deadline) == []


def test_cancel_without_grace_never_escalates(node: Node, root: str) -> None:  # S29
    node.says(root, m.Cancel(root, None))
    assert node.timers() == []
    node.table.mail_written(node.worker[root])
    assert node.says(root, m.Cancel(root, None)) == [m.CancelSignal(root, None)]


def test_terminate_of_a_worker_that_is_not_yet_forked(node: Node, root: str) -> None:  # S30, S26
    child = node.spawn(root, monitor=True)
    for _ in range(2):
        node.says(root, m.Terminate(child))
    node.says(root, m.Terminate(STRANGER))
    node.done(node.table.worker_failed(node.worker[child], "host_lost", node.now))
    [notice] = node.to(root)
    assert notice[2].kind == "killed", "what the runtime chose, not that its host was lost"


def test_the_first_choice_stands(node: Node, root: str) -> None:  # S12
    node.says(root, m.Terminate(root))
    assert node.killed() == [node.worker[root]]
    assert node.table.worker_lost(node.worker[root]) == []
    assert node.table.worker_overflowed(node.worker[root]) == []
    assert node.dies(root).kind == "killed"
    assert node.table.worker_exited(node.worker[root], SIGKILL, node.now) == []
    assert node.table.worker_lost(node.worker[root]) == []


def test_a_kill_that_came_too_late(node: Node, root: str) -> None:  # S12
    node.says(root, m.Terminate(root))
    assert node.dies(root, WaitStatus(0), make_reason("normal", value=b"v")) == make_reason("normal", value=b"v")


@pytest.mark.parametrize("report", [make_reason("killed"), ERROR._replace(origin=STRANGER)], ids=["kind", "origin"])
def test_a_spoofed_report_is_a_violation(node: Node, root: str, report: Any) -> None:  # S31, S11
    node.says(root, m.ExitReport(report))
    assert node.killed() == [node.worker[root]]
    assert node.dies(root).kind == "protocol"


def test_shutdown_asks_the_actors(node: Node, root: str) -> None:
    node.done(node.table.cancel_all(node.now, 1.5))
    assert node.to(root) == [m.CancelSignal("", 1500)]
    assert [timer.deadline for timer in node.timers()] == [node.now + 1.5]


# --- names ------------------------------------------------------------------------------------------------------------


def test_names(node: Node, root: str) -> None:  # S32
    child = node.spawn(root)
    third = node.spawn(root)
    for _ in range(2):
        request = node.number()
        assert node.says(root, m.Register(request, "room", child)) == [m.Reply(request, None)]
    [taken] = node.says(third, m.Register(node.number(), "room", third))
    assert (taken[1], taken[3]) == ("AlreadyExists", child)
    [dead] = node.says(root, m.Register(node.number(), "hall", STRANGER))
    assert dead[1] == "NoProc"
    [bad] = node.says(root, m.Register(node.number(), "{brace", child))
    assert bad[1] == "Invalid"
    [forbidden] = node.says(third, m.Unregister(node.number(), "room"))
    assert forbidden[1] == "NotPermitted"
    [unknown] = node.says(third, m.Unregister(node.number(), "hall"))
    assert unknown[1] == "NotFound"
    request = node.number()
    assert node.says(child, m.Unregister(request, "room")) == [m.Reply(request, None)]
    request = node.number()
    assert node.says(root, m.Register(request, "room", third)) == [m.Reply(request, None)]
    request = node.number()
    assert node.says(root, m.Unregister(request, "room")) == [m.Reply(request, None)], "who registered it may, too"


# --- connections ------------------------------------------------------------------------------------------------------


def test_admission_needs_a_live_target_and_a_new_pid(node: Node, root: str) -> None:  # S44, S1
    connection = node.admit(root, 5)

    def refused(pid: str, target: str) -> str:
        [answer] = node.gateway(m.Admit(node.number(), pid, target, ""))
        assert isinstance(answer, m.Refused)
        return answer.error

    new = f"{{n@t:http|{EPOCH}.g{GATEWAY}.6}}"
    assert refused(new, STRANGER) == refused(new, "no-such-name") == "NotFound"
    assert refused(new, connection) == "Invalid"
    for used in (connection, root, new.replace(EPOCH, "f" * 16), new.replace("g3", "g2"), "garbage"):
        assert refused(used, root) == "Invalid"


def test_only_the_watcher_on_a_marked_channel_gets_a_mark(node: Node, root: str) -> None:  # S14
    other = node.spawn(root)
    connection = node.admit(root, 1)
    refs = [node.monitor(pid, connection) for pid in (root, other)]
    node.link(other, connection)
    node.trap(other)
    node.gateway(m.ConnectionEnded(connection, ERROR, ((node.worker[root], 7), (999, 8))))
    assert node.to(root) == [m.Exit(refs[0], connection, ERROR, m.Mark(GATEWAY, 7))]
    assert node.to(other) == [m.Exit(refs[1], connection, ERROR, None), m.LinkDown(connection, ERROR, None)]


def test_who_asks_late_is_told_behind_what_a_connection_had_sent(node: Node, root: str) -> None:  # S14, S20, S24
    other = node.spawn(root)
    first, second, never = node.admit(root, 1), node.admit(root, 2), node.admit(root, 3).replace("g3.3", "g3.4")
    for connection, frame in ((second, 9), (first, 7)):
        node.gateway(m.ConnectionEnded(connection, ERROR, ((node.worker[root], frame), (999, 8))))
    node.trap(root)

    def late(watcher: str, pid: str) -> m.Mark | None:
        _, notice = node.says(watcher, m.Monitor(node.number(), pid))
        assert (notice[1], notice[2].kind) == (pid, "noproc")
        mark: m.Mark | None = notice[3]
        return mark

    assert late(root, first) == late(root, never) == m.Mark(GATEWAY, 9)
    assert node.says(root, m.Link(node.number(), first))[1][2] == m.Mark(GATEWAY, 9)
    assert late(other, first) is None
    assert late(root, STRANGER) is late(root, never.replace("g3", "g4")) is None
    node.done(node.table.gateway_lost())
    assert late(root, first) == late(other, first) == m.Mark(GATEWAY, m.END_OF_CHANNEL)
    assert late(root, never.replace("g3", "g4")) is None
    young = node.spawn(root)  # it never had a channel to that gateway: there is nothing to wait for
    assert late(young, first) is None
    node.done(node.table.gateway_lost())
    assert late(young, first) is None
    assert late(young, first.replace("g3", "g4")) == m.Mark(GATEWAY + 1, m.END_OF_CHANNEL)


def test_a_link_ends_a_connection_with_its_peers_reason(node: Node, root: str) -> None:  # S51, S52, S25
    connection = node.admit(root, 1)
    node.link(root, connection)
    node.dies(root, WaitStatus(1), ERROR)
    assert SendToGateway(m.EndConnection(connection, ERROR._replace(origin=root))) in node.log
    assert not [effect for effect in node.log if isinstance(effect, KillWorker)]


def test_a_connection_is_told_once_to_end(node: Node, root: str) -> None:  # S30, S52
    connection = node.admit(root, 1)
    node.says(root, m.Terminate(connection))
    [end] = node.to_gateway()
    assert (end[0], end[1].kind) == (connection, "killed")
    node.says(root, m.Terminate(connection))
    assert node.log == []


def test_abandon(node: Node) -> None:  # S44
    invocation = node.invoke()
    spawned, joined = node.spawn(invocation), node.spawn(invocation)
    foreign = node.spawn(spawned)
    mine = node.admit(spawned, 1, invocation)
    node.admit(joined, 2)
    for target, by, connection in (
        (foreign, invocation, None),  # spawned by another
        (joined, invocation, None),  # somebody joined
        (joined, invocation, mine),  # two were let in by now
        (spawned, STRANGER, mine),
        (STRANGER, invocation, None),
        (invocation, "", None),
        (mine, invocation, None),
    ):
        if connection == mine and target == joined:
            node.gateway(m.Retarget(node.number(), mine, joined))
        node.gateway(m.Abandon(target, by, connection))
        assert node.log == [], target
    node.returns(invocation)
    node.gateway(m.Abandon(spawned, invocation, mine))
    assert node.killed() == [node.worker[spawned]]
    assert node.dies(spawned).kind == "killed"
