"""A handshake whose handler fails leaves no process behind, in the table (S44)."""

from __future__ import annotations

import pytest
from wsrelay.kernel.core.effects import SendToWorker
from wsrelay.kernel.core.endings import WaitStatus
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import Application, Entry, HostConfiguration
from wsrelay.kernel.wire.reason import make_reason

from .node import STRANGER, Node

RAISED = make_reason("exception", "ValueError: no")
NOT_COMPLETED = ("killed", "the handshake that it was spawned for was not completed")


@pytest.fixture
def node() -> Node:
    return Node(max_processes=6)


def fails(node: Node, invocation: str, named: str | None = None) -> None:
    """It raises, after it has named a target or none."""
    node.says(invocation, m.ExitReport(RAISED, named))
    assert node.killed() == [], "the wait status is still to come (S13)"
    node.done(node.table.worker_exited(node.worker[invocation], WaitStatus(1), node.now))


def dies(node: Node, invocation: str) -> None:
    """It is gone without a word."""
    node.done(node.table.worker_exited(node.worker[invocation], WaitStatus(3), node.now))


# --- the target that it has named -------------------------------------------------------------------------------------


@pytest.mark.parametrize("handshake", [True, False])
@pytest.mark.parametrize("by_name", [True, False])
def test_the_target_that_it_named_ends(node: Node, handshake: bool, by_name: bool) -> None:
    invocation = node.invoke(handshake=handshake)
    target = node.spawn(invocation)
    node.says(target, m.Register(node.number(), "room", target))
    fails(node, invocation, "room" if by_name else target)
    assert node.killed() == [node.worker[target]]
    assert node.dies(target)[:2] == NOT_COMPLETED


def test_not_one_that_another_has_spawned(node: Node) -> None:
    other = node.invoke()
    foreign = node.spawn(other)
    for named in (foreign, other, STRANGER, "nobody", ""):
        fails(node, node.invoke(handshake=True), named)
        assert node.killed() == [], named


def test_not_one_that_somebody_was_admitted_to(node: Node) -> None:
    invocation = node.invoke(handshake=True)
    target = node.spawn(invocation)
    node.admit(target, 1)
    fails(node, invocation, target)
    assert node.killed() == []


def test_a_linked_one_ends_with_the_reason_of_its_invocation(node: Node) -> None:  # S25
    invocation = node.invoke(handshake=True)
    target, trapping = (node.spawn(invocation, link=True) for _ in range(2))
    node.trap(trapping)
    fails(node, invocation, target)
    assert sorted(node.killed()) == [node.worker[target], node.worker[trapping]]
    assert node.to(trapping) == [m.LinkDown(invocation, RAISED, None)]
    assert node.dies(target) == RAISED._replace(origin=invocation)
    assert node.dies(trapping)[:2] == NOT_COMPLETED


# --- it has said nothing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waited", [False, True])
def test_what_it_spawned_for_a_handshake_ends(node: Node, waited: bool) -> None:
    if waited:
        busy = [node.invoke(), node.invoke()]
        assert node.gateway(m.RequestInvocation(node.number(), "t:f", True)) == []
        node.returns(busy[0])
        [invocation] = [record.pid for record in node.to_gateway() if isinstance(record, m.Granted)]
        node.worker[invocation] = node.worker[busy[0]]
    else:
        invocation = node.invoke(handshake=True)
    one, two = node.spawn(invocation), node.spawn(invocation, monitor=True)
    gone = node.spawn(invocation)
    node.dies(gone)
    dies(node, invocation)
    assert sorted(node.killed()) == [node.worker[one], node.worker[two]]
    assert node.dies(one)[:2] == node.dies(two)[:2] == NOT_COMPLETED


def test_also_if_it_was_killed_or_its_gateway_is_dead(node: Node) -> None:
    invocation = node.invoke(handshake=True)
    target = node.spawn(invocation)
    node.gateway(m.TerminateInvocation(invocation))
    assert node.killed() == [node.worker[invocation]]
    node.dies(invocation)
    assert node.killed() == [node.worker[target]]
    other = node.invoke(handshake=True)
    lone = node.spawn(other)
    node.done(node.table.gateway_lost())
    dies(node, other)
    assert node.killed() == [node.worker[lone]]


def test_a_request_that_waits_through_a_reload_is_for_a_handshake_still(node: Node) -> None:
    busy = [node.invoke(), node.invoke()]
    node.gateway(m.RequestInvocation(node.number(), "t:f", True))
    host = HostConfiguration("t:host", max_processes=6, functions=2)
    configured = Application(
        hosts={"t:host": host},
        processes={"t:actor": Entry("t:actor", "file:///actor.py", "main")},
        functions={"t:f": Entry("t:f", "file:///f.py", "f")},
        function_hosts={"t:f": "t:host"},
    )
    node.done(node.table.reconfigure(configured, node.now))
    node.returns(busy[0])
    [invocation] = [record.pid for record in node.to_gateway() if isinstance(record, m.Granted)]
    target = node.spawn(invocation)
    dies(node, invocation)
    assert node.killed() == [node.worker[target]]


def test_nothing_that_is_meant_for_others_ends(node: Node) -> None:
    stranger = node.spawn(node.invoke())
    invocation = node.invoke(handshake=True)
    named, member, linked, admitted, other = (node.spawn(invocation) for _ in range(5))
    node.says(named, m.Register(node.number(), "room", named))
    node.says(member, m.JoinGroup(node.number(), "rooms", member))
    node.link(linked, stranger)
    node.admit(admitted, 1)
    dies(node, invocation)
    assert node.killed() == [node.worker[other]]


def test_a_link_to_what_it_has_spawned_itself_keeps_nobody(node: Node) -> None:
    invocation = node.invoke(handshake=True)
    target = node.spawn(invocation)
    helper = node.spawn(target, link=True)
    dies(node, invocation)
    assert node.killed() == [node.worker[target]]
    reason = node.dies(target)
    assert node.killed() == [node.worker[helper]]
    assert node.dies(helper) == reason._replace(origin=target)


def test_nothing_of_a_plain_request_ends(node: Node) -> None:
    for end in (fails, dies):
        invocation = node.invoke()
        node.spawn(invocation)
        end(node, invocation)
        assert node.killed() == []


@pytest.mark.parametrize("how", ["returns", "reports", "is killed while it returns"])
def test_nothing_of_an_answered_handshake_ends(node: Node, how: str) -> None:
    invocation = node.invoke(handshake=True)
    node.spawn(invocation)
    if how == "returns":
        node.returns(invocation)
    elif how == "reports":
        node.says(invocation, m.ExitReport(make_reason("normal")))
        node.dies(invocation)
    else:
        node.gateway(m.TerminateInvocation(invocation))
        node.returns(invocation)
        node.dies(invocation)
    assert node.killed() == []


def test_what_is_executed_ends_with_its_caller(node: Node) -> None:  # S34
    invocation = node.invoke(handshake=True)
    node.says(invocation, m.Execute(node.number(), "t:actor", "t:host", b"", None))
    [started] = node.started()
    dies(node, invocation)
    assert node.killed() == [started.worker]
    assert not [effect for effect in node.log if isinstance(effect, SendToWorker)]
