"""The death of the gateway, in the table (S41), and how soon there is another."""

from __future__ import annotations

import pytest
from wsrelay.kernel.core.effects import ProcessEnded
from wsrelay.kernel.core.gateway_restarts import MAX_DELAY, STABLE, GatewayRestarts
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.reason import make_reason

from .node import EPOCH, GATEWAY, Node

LOST = make_reason("noconnection", "gateway_lost")
MARK = m.Mark(GATEWAY, m.END_OF_CHANNEL)


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def root(node: Node) -> str:
    invocation = node.invoke()
    root = node.spawn(invocation)
    node.returns(invocation)
    return root


def test_its_connections_die_once_and_nobody_else(node: Node, root: str) -> None:
    first, second = node.admit(root, 1), node.admit(root, 2)
    ref = node.monitor(root, first)
    node.trap(root)
    node.link(root, second)
    node.says(root, m.Register(node.number(), "line", first))
    node.done(node.table.gateway_lost())
    assert {effect.pid: effect.reason for effect in node.log if isinstance(effect, ProcessEnded)} == {
        first: LOST,
        second: LOST,
    }
    # Held until the dead gateway's channel has ended, and so behind each ws.leave.
    assert node.to(root) == [m.Exit(ref, first, LOST, MARK), m.LinkDown(second, LOST, MARK)]
    assert node.killed() == []
    assert node.to_gateway() == []
    assert node.table.statistics()["names"] == 0
    assert node.done(node.table.gateway_lost()) == []


def test_a_peer_that_does_not_trap_dies_of_it(node: Node, root: str) -> None:  # S25
    connection = node.admit(root, 1)
    node.link(root, connection)
    node.done(node.table.gateway_lost())
    assert node.killed() == [node.worker[root]]
    reason = node.dies(root)
    assert (reason.kind, reason.origin) == ("noconnection", connection)


def test_the_next_incarnation_counts_anew(node: Node, root: str) -> None:  # S1
    node.admit(root, 7)
    node.done(node.table.gateway_lost())
    assert node.table.gateway == GATEWAY + 1
    for incarnation, answer in ((GATEWAY, m.Refused), (GATEWAY + 2, m.Refused), (GATEWAY + 1, m.Admitted)):
        pid = f"{{n@t:http|{EPOCH}.g{incarnation}.1}}"
        [answered] = node.gateway(m.Admit(node.number(), pid, root, ""))
        assert isinstance(answered, answer)


def test_its_requests_are_forgotten(node: Node) -> None:
    running = [node.invoke(), node.invoke()]
    node.requests = 0
    waiting = node.number()
    assert node.gateway(m.RequestInvocation(5, "t:f")) == []
    node.done(node.table.gateway_lost())
    assert node.log == []  # what runs runs on
    assert [node.table.worker_pid(node.worker[pid]) for pid in running] == running
    # The next gateway uses the same numbers: they are its own.
    assert node.gateway(m.RequestInvocation(waiting, "t:f")) == []
    node.returns(running[0])
    finished, granted = node.to_gateway()
    assert (finished[1], granted[0]) == (running[0], waiting)
    node.returns(running[1])
    assert [type(record) for record in node.to_gateway()] == [m.InvocationFinished]
    node.gateway(m.WithdrawInvocation(waiting))
    assert node.killed() == [granted[2]]
    assert node.table.worker_pid(node.worker[running[1]]) == ""


def test_once_is_an_accident_and_again_and_again_is_not() -> None:
    restarts = GatewayRestarts()
    assert [restarts.next_delay(0.0) for _ in range(9)] == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, MAX_DELAY, MAX_DELAY]
    assert restarts.next_delay(STABLE) == 0
    assert restarts.next_delay(STABLE - 0.1) == 0.1
    for _ in range(2000):
        assert restarts.next_delay(0.0) <= MAX_DELAY
