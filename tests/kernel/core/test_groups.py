"""Groups, rule by rule (S33)."""

from __future__ import annotations

from typing import Any

import pytest
from wsrelay.kernel.core import groups, population
from wsrelay.kernel.core.endings import WaitStatus
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.reason import make_reason

from .node import STRANGER, Node


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def root(node: Node) -> str:
    return node.spawn(node.invoke())


def answer(node: Node, pid: str, record: type, *fields: Any) -> Any:
    request = node.number()
    [reply] = [each for each in node.says(pid, record(request, *fields)) if not isinstance(each, m.GroupChanged)]
    assert reply[0] == request
    return reply[1]


def changes(node: Node, pid: str) -> list[tuple[Any, ...]]:
    return [tuple(record) for record in node.to(pid) if isinstance(record, m.GroupChanged)]


def test_joins_are_counted_and_members_are_distinct(node: Node, root: str) -> None:
    other = node.spawn(root)
    assert [answer(node, root, m.JoinGroup, "g", root) for _ in range(2)] == [1, 2]
    assert answer(node, other, m.JoinGroup, "g", root) == 3, "joins count for the member, whoever asked"
    assert answer(node, root, m.JoinGroup, "g", other) == 1
    assert answer(node, root, m.ListMembers, "g") == (root, other)
    assert [answer(node, other, m.LeaveGroup, "g", root) for _ in range(3)] == [2, 1, 0]
    assert answer(node, root, m.ListMembers, "g") == (other,)
    assert answer(node, root, m.LeaveGroup, "g", root) == 0, "no member: nothing happens"
    assert answer(node, root, m.LeaveGroup, "g", STRANGER) == 0
    assert answer(node, root, m.LeaveGroup, "h", root) == 0


def test_who_can_join(node: Node, root: str) -> None:
    connection = node.admit(root, 1)
    assert answer(node, root, m.JoinGroup, "g", connection) == 1, "WebSocket PIDs can be members"
    assert answer(node, root, m.JoinGroup, "g", STRANGER) == "NoProc"
    assert answer(node, root, m.JoinGroup, "g", "nobody") == "Invalid"
    assert answer(node, root, m.JoinGroup, "{g}", root) == "Invalid"
    assert answer(node, root, m.ListMembers, "g") == (connection,)


def test_a_watch_is_a_snapshot_and_every_change_without_gap(node: Node, root: str) -> None:
    other = node.spawn(root)
    answer(node, root, m.JoinGroup, "g", root)
    ref = node.requests + 1
    assert answer(node, other, m.WatchGroup, "g") == (root,)
    answer(node, root, m.JoinGroup, "g", other)
    assert changes(node, other) == [(ref, other, True)]
    answer(node, root, m.JoinGroup, "g", other)
    assert changes(node, other) == [], "a count is no change of the members"
    answer(node, root, m.LeaveGroup, "g", root)
    assert changes(node, other) == [(ref, root, False)]
    answer(node, root, m.JoinGroup, "h", root)
    assert changes(node, other) == []
    answer(node, other, m.UnwatchGroup, ref)
    answer(node, root, m.JoinGroup, "g", root)
    assert changes(node, other) == []


def test_an_empty_group_can_be_watched(node: Node, root: str) -> None:
    ref = node.requests + 1
    assert answer(node, root, m.WatchGroup, "g") == ()
    answer(node, root, m.JoinGroup, "g", root)
    assert changes(node, root) == [(ref, root, True)]


def test_watches_stack(node: Node, root: str) -> None:
    first = node.requests + 1
    for _ in range(2):
        answer(node, root, m.WatchGroup, "g")
    answer(node, root, m.UnwatchGroup, first)
    answer(node, root, m.UnwatchGroup, first)
    answer(node, root, m.JoinGroup, "g", root)
    assert [change[0] for change in changes(node, root)] == [first + 1]


def test_a_ref_is_used_once(node: Node, root: str) -> None:
    answer(node, root, m.WatchGroup, "g")
    node.says(root, m.WatchGroup(node.requests, "h"))
    assert node.killed() == [node.worker[root]]
    assert node.dies(root).kind == "protocol"


def test_death_leaves_all_groups_before_any_notice(node: Node, root: str) -> None:  # S15
    child = node.spawn(root, monitor=True)
    exit_ref = node.requests
    for group in ("g", "h"):
        answer(node, root, m.JoinGroup, group, child)
        answer(node, root, m.WatchGroup, group)
    answer(node, child, m.WatchGroup, "g")
    g, h = node.requests - 3, node.requests - 1
    reason = node.dies(child, WaitStatus(1), make_reason("exception", "E"))
    assert node.to(root) == [
        m.GroupChanged(g, child, False),
        m.GroupChanged(h, child, False),
        m.Exit(exit_ref, child, reason, None),
    ]
    assert answer(node, root, m.ListMembers, "g") == ()
    sizes = node.table.statistics()
    assert (sizes["memberships"], sizes["watches"]) == (0, 2)


def test_a_connection_that_ends_leaves(node: Node, root: str) -> None:  # S15
    connection = node.admit(root, 1)
    answer(node, root, m.JoinGroup, "g", connection)
    answer(node, root, m.WatchGroup, "g")
    node.gateway(m.ConnectionEnded(connection, make_reason("normal"), ()))
    assert node.to(root) == [m.GroupChanged(node.requests, connection, False)]


def test_an_invocation_that_returns_leaves(node: Node) -> None:  # S57
    invocation = node.invoke()
    answer(node, invocation, m.JoinGroup, "g", invocation)
    answer(node, invocation, m.WatchGroup, "g")
    node.returns(invocation)
    sizes = node.table.statistics()
    assert (sizes["memberships"], sizes["watches"]) == (0, 0)


def test_groups_have_limits(node: Node, root: str, monkeypatch: pytest.MonkeyPatch) -> None:  # S10
    other = node.spawn(root)
    monkeypatch.setattr(groups, "MAX_MEMBERS", 1)
    answer(node, root, m.JoinGroup, "g", root)
    assert answer(node, root, m.JoinGroup, "g", other) == "LimitExceeded"
    assert answer(node, root, m.JoinGroup, "g", root) == 2
    monkeypatch.setattr(population, "MAX_RELATIONS", 1)
    assert answer(node, root, m.JoinGroup, "h", root) == "LimitExceeded"
