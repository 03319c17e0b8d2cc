"""Function pools and invocations: who runs what, and what takes the place of the dead (S57, S58)."""

from __future__ import annotations

import signal

import pytest
from wsrelay.kernel.core.effects import PoolRefill
from wsrelay.kernel.core.endings import WaitStatus
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.reason import make_reason

from .node import STRANGER, Node


@pytest.fixture
def node() -> Node:
    return Node()


def test_pools_are_filled_where_functions_live(node: Node) -> None:
    assert [(start.host, start.start.pid) for start in node.started()] == [("t:host", "")] * 2


def test_a_host_without_function_workers_refuses(node: Node) -> None:
    [refused] = node.gateway(m.RequestInvocation(1, "t:never"))
    assert refused[:2] == (1, "LimitExceeded")
    assert "functions: 0" in refused[2]
    [refused] = node.gateway(m.RequestInvocation(2, "t:unknown"))
    assert refused[:2] == (2, "NotFound")


def test_requests_are_granted_in_their_order(node: Node) -> None:
    running = [node.invoke(), node.invoke()]
    waiting = [node.number() for _ in range(3)]
    for request in waiting:
        assert node.gateway(m.RequestInvocation(request, "t:f")) == []
    node.gateway(m.WithdrawInvocation(waiting[0]))
    assert node.log == []
    node.returns(running[1])
    finished, granted = node.to_gateway()
    assert finished[:2] == (node.worker[running[1]], running[1])
    assert granted[0] == waiting[1]
    assert granted[2] == node.worker[running[1]], "its OS process is used again"
    assert granted[1] not in running, "but it is another process (S57)"


def test_a_return_ends_the_process_and_all_that_it_had(node: Node) -> None:  # S57
    invocation = node.invoke()
    child = node.spawn(invocation, link=True, monitor=True)
    ref = node.monitor(child, invocation)
    node.says(invocation, m.Register(node.number(), "me", invocation))
    node.returns(invocation)
    assert node.to(child) == [m.Exit(ref, invocation, make_reason("normal"), None)]
    assert node.killed() == []
    sizes = node.table.statistics()
    assert (sizes["processes"], sizes["names"], sizes["monitors"], sizes["links"]) == (1, 0, 0, 0)


def test_a_crash_is_replaced_at_once(node: Node) -> None:
    invocation = node.invoke()
    node.invoke()
    waiting = node.number()
    node.gateway(m.RequestInvocation(waiting, "t:f"))
    node.dies(invocation, WaitStatus(None, signal.SIGSEGV))
    ended, granted = node.to_gateway()
    assert (ended[1], ended[2].kind) == (invocation, "signal:SIGSEGV")
    assert (granted[0], granted[2]) == (waiting, node.started()[0].worker)
    assert node.timers() == []


def test_a_worker_that_dies_idle_is_replaced_later(node: Node) -> None:
    first, second = node.table.workers()
    node.done(node.table.worker_exited(first, WaitStatus(1), node.now))
    [timer] = node.timers()
    assert timer.deadline > node.now
    assert timer.event == PoolRefill("t:host")
    assert node.started() == []
    node.done(node.table.worker_failed(second, "no fork", node.now))
    assert node.timers() == [], "one timer is enough"
    request = node.number()
    assert node.gateway(m.RequestInvocation(request, "t:f")) == []
    node.done(node.table.timer_fired(timer.event, timer.deadline))
    assert len(node.started()) == 2
    [granted] = node.to_gateway()
    assert granted[0] == request


def test_a_request_withdrawn_after_the_grant_kills(node: Node) -> None:
    invocation = node.invoke()
    node.gateway(m.WithdrawInvocation(node.requests))
    assert node.killed() == [node.worker[invocation]]
    assert node.dies(invocation).kind == "killed"
    node.gateway(m.WithdrawInvocation(node.requests))
    assert node.log == []


def test_a_request_withdrawn_after_the_return_does_nothing(node: Node) -> None:
    invocation = node.invoke()
    request = node.requests
    node.returns(invocation)
    node.gateway(m.WithdrawInvocation(request))
    assert node.log == []


def test_an_invocation_that_takes_too_long(node: Node) -> None:  # S58
    invocation = node.invoke()
    actor = node.spawn(invocation)
    node.gateway(m.TerminateInvocation(actor))
    assert node.log == [], "only invocations"
    node.gateway(m.TerminateInvocation(invocation))
    assert node.killed() == [node.worker[invocation]]


def test_a_return_while_it_is_being_killed_waits_for_the_status(node: Node) -> None:  # S12, S25
    for status, kind in ((WaitStatus(None, signal.SIGKILL), "killed"), (WaitStatus(0), "normal")):
        invocation = node.invoke()
        node.gateway(m.TerminateInvocation(invocation))
        node.returns(invocation)
        assert node.log == []
        assert node.dies(invocation, status).kind == kind
        assert len(node.started()) == 1


def test_a_worker_that_is_being_killed_is_granted_no_more(node: Node) -> None:
    first, second = node.table.workers()
    node.done(node.table.worker_violated(first, "garbage"))
    assert node.worker[node.invoke()] == second
    assert node.gateway(m.RequestInvocation(node.number(), "t:f")) == []


@pytest.mark.parametrize("wrong", ["pid", "abnormal", "actor", "late"])
def test_an_end_that_is_none(node: Node, wrong: str) -> None:  # S11, S57
    invocation = node.invoke()
    actor = node.spawn(invocation)
    if wrong == "late":
        node.says(invocation, m.ExitReport(make_reason("normal")))
    speaker = actor if wrong == "actor" else invocation
    pid = STRANGER if wrong == "pid" else speaker
    node.says(speaker, m.InvocationEnded(pid, make_reason("exception" if wrong == "abnormal" else "normal")))
    assert node.killed() == [node.worker[speaker]]
    assert node.dies(speaker).kind == "protocol"


def test_an_idle_worker_says_nothing(node: Node) -> None:  # S11
    number = node.table.workers()[0]
    node.done(node.table.from_worker(number, m.Lookup(1, "room"), node.now))
    assert node.killed() == [number]


def test_a_cancel_of_one_invocation_does_not_swallow_the_nexts(node: Node) -> None:  # S29, S57
    sender, first = node.invoke(), node.invoke()
    node.says(sender, m.Cancel(first, None))
    node.returns(first)
    second = node.invoke()
    assert node.worker[second] == node.worker[first]
    node.says(sender, m.Cancel(second, None))
    assert node.to(second) == [m.CancelSignal(sender, None)]


def test_the_death_of_an_actor_forgets_no_request(node: Node) -> None:
    [granted] = node.gateway(m.RequestInvocation(0, "t:f"))
    actor = node.spawn(granted[1])
    node.dies(actor)
    node.gateway(m.WithdrawInvocation(0))
    assert node.killed() == [granted[2]]


def test_nothing_is_replaced_at_shutdown(node: Node) -> None:
    invocation = node.invoke()
    node.done(node.table.kill_all())
    assert sorted(node.killed()) == sorted(node.table.workers())
    node.dies(invocation)
    assert node.started() == []
    [number] = node.table.workers()
    node.done(node.table.worker_exited(number, WaitStatus(1), node.now))
    assert node.started() == node.timers() == []
    assert node.table.workers() == []
