"""Held connections, in the table (S56), and targets that were promised and never joined (S44)."""

from __future__ import annotations

from typing import Any

import pytest
from wsrelay.kernel.core.endings import WaitStatus
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import Service
from wsrelay.kernel.wire.reason import make_reason

from .node import STRANGER, Node
from .test_services import service

CLEAN = (WaitStatus(0), make_reason("normal"))


class Room(Node):
    """A node with one service, a connection to it, and what the gateway is told of held connections."""

    def __init__(self, room: Service, *others: Service) -> None:
        super().__init__(room, *others)
        self.name = room.register or "room"
        self.takes_its_name()
        self.connection = self.admit(self.name, 1)

    def takes_its_name(self) -> list[tuple[Any, ...]]:
        """The service's process registers the name, unless it has it already. Returns what the gateway is told."""
        pid = self.pid("t:room")
        self.says(pid, m.Register(self.number(), self.name, pid))
        return self.to_gateway()

    def awaits(self, connection: str | None = None) -> list[tuple[Any, ...]]:
        return self.gateway(m.AwaitService(connection or self.connection, self.name))

    def returned(self, connection: str | None = None) -> m.ServiceReturned:
        pid = self.pid("t:room")
        return m.ServiceReturned(connection or self.connection, pid, self.worker[pid])


@pytest.mark.parametrize("register", ["room", None])
def test_who_waits_is_told_when_the_service_has_its_name_again(register: str | None) -> None:
    node = Room(service("room", register=register, type="permanent"))
    old = node.pid("t:room")
    timer = node.crashes("t:room")
    assert timer is not None
    assert node.restarting()
    assert node.awaits() == []
    node.fires(timer)
    if register is None:  # by its own hand, and not before
        assert node.to_gateway() == []
        node.takes_its_name()
    assert node.to_gateway() == [node.returned()]
    assert node.pid("t:room") != old
    # Once: a later name, or a later death, is for those that wait then.
    node.takes_its_name()
    assert node.to_gateway() == []


def test_who_comes_late_is_answered_at_once() -> None:
    node = Room(service("room", register="room"))
    timer = node.crashes("t:room")
    assert timer is not None
    node.fires(timer)
    assert node.to_gateway() == []
    assert node.awaits() == [node.returned()]
    # and again after a second death
    timer = node.crashes("t:room")
    assert node.awaits() == []
    assert timer is not None
    node.fires(timer)
    assert node.to_gateway() == [node.returned()]


@pytest.mark.parametrize("waits", [True, False])
def test_a_service_that_is_given_up_is_waited_for_no_more(waits: bool) -> None:  # S37
    node = Room(service("room", intensity=1))
    timer = node.crashes("t:room")
    assert timer is not None
    if waits:
        assert node.awaits() == []
    node.fires(timer)
    assert node.crashes("t:room") is None
    gone = [record for record in node.to_gateway() if isinstance(record, m.ServiceGone)]
    assert gone == ([m.ServiceGone(node.connection)] if waits else [])
    if not waits:
        assert node.awaits() == [m.ServiceGone(node.connection)]


def test_so_is_one_that_is_stopped_or_has_finished() -> None:  # S36, S39
    node = Room(service("room"))
    timer = node.crashes("t:room")
    node.awaits()
    node.done(node.table.stop_service("t:room", node.now))
    assert node.to_gateway() == [m.ServiceGone(node.connection)]
    node = Room(service("room"))
    timer = node.crashes("t:room")
    assert timer is not None
    node.awaits()
    node.fires(timer)
    node.dies(node.pid("t:room"), *CLEAN)  # before it has its name
    assert node.to_gateway()[1:] == [m.ServiceGone(node.connection)]
    node = Room(service("room"))
    timer = node.crashes("t:room")
    assert timer is not None
    node.awaits()
    node.fires(timer)
    node.done(node.table.stop_service("t:room", node.now))  # it lives, and will not be restarted
    assert node.to_gateway() == [m.ServiceGone(node.connection)]


def test_a_runtime_that_stops_answers_nobody() -> None:  # S49: its clients are closed with 1001
    node = Room(service("room", register="room"))
    node.crashes("t:room")
    node.awaits()
    node.done(node.table.end_restarts())
    assert node.to_gateway() == []
    assert node.awaits() == []


def test_a_stranger_that_takes_the_name_is_not_waited_for() -> None:
    node = Room(service("room"))
    timer = node.crashes("t:room")
    assert timer is not None
    node.awaits()
    stranger = node.spawn(node.invoke())
    node.says(stranger, m.Register(node.number(), "room", stranger))
    assert node.to_gateway() == []
    node.fires(timer)
    node.says(stranger, m.Unregister(node.number(), "room"))
    assert node.takes_its_name() == [node.returned()]


def test_who_has_ended_waits_no_more() -> None:
    node = Room(service("room", register="room"))
    timer = node.crashes("t:room")
    assert timer is not None
    node.gateway(m.AwaitService(node.connection, "elsewhere"))
    node.awaits()  # one name at a time
    node.gateway(m.ConnectionEnded(node.connection, make_reason("normal"), ()))
    assert node.awaits() == []
    node.fires(timer)
    assert node.to_gateway() == []


def test_a_gateway_that_is_lost_waits_for_nobody() -> None:  # S41
    node = Room(service("room", register="room"))
    timer = node.crashes("t:room")
    assert timer is not None
    node.awaits()
    node.done(node.table.gateway_lost())
    node.fires(timer)
    assert node.to_gateway() == []


def test_a_transfer_changes_what_is_waited_for() -> None:  # S47
    node = Room(service("room", register="room"), service("other", register="other"))
    [admitted] = node.gateway(m.Retarget(node.number(), node.connection, "other"))
    assert admitted[1] == node.pid("t:other")
    node.crashes("t:room")
    assert node.gateway(m.AwaitService(node.connection, "other"))[0][1] == node.pid("t:other")
    assert node.awaits() == []  # no connection of its service: the name is not what it waits for
    assert node.gateway(m.AwaitService(node.pid("t:other"), "other")) == []
    assert node.gateway(m.AwaitService(STRANGER, "other")) == []
    stray = node.admit(node.spawn(node.invoke()), 2)
    assert node.gateway(m.AwaitService(stray, "other")) == [m.ServiceGone(stray)]


# --- promised targets (S44) -------------------------------------------------------------------------------------------


@pytest.fixture
def node() -> Node:
    return Node()


def answers(node: Node, invocation: str, target: str | None) -> None:
    node.says(invocation, m.InvocationEnded(invocation, make_reason("normal"), target))


@pytest.mark.parametrize("named", [False, True])
def test_a_target_that_nobody_joined_ends_with_the_gateway(node: Node, named: bool) -> None:
    invocation = node.invoke()
    target, helper = node.spawn(invocation), node.spawn(invocation)
    node.says(target, m.Register(node.number(), "room", target))
    answers(node, invocation, "room" if named else target)
    assert node.killed() == []
    node.done(node.table.gateway_lost())
    assert node.killed() == [node.worker[target]]  # and not what the handler spawned besides
    reason = node.dies(target)
    assert (reason.kind, reason.detail) == ("killed", "the handshake that it was spawned for was not completed")
    assert helper in node.worker
    node.done(node.table.gateway_lost())
    assert node.killed() == []


def test_nor_does_that_of_an_invocation_whose_process_ends_with_it(node: Node) -> None:
    # It left a thread behind, for example: then its exit report says what it answered.
    for gateway in ("lives", "is dead"):
        invocation = node.invoke()
        target = node.spawn(invocation)
        if gateway == "is dead":
            node.done(node.table.gateway_lost())
        node.says(invocation, m.ExitReport(make_reason("normal"), target))
        assert node.killed() == ([] if gateway == "lives" else [node.worker[target]])
        node.dies(invocation, WaitStatus(0))
        if gateway == "lives":
            node.done(node.table.gateway_lost())
            assert node.killed() == [node.worker[target]]
            node.dies(target)


@pytest.mark.parametrize("order", ["answer first", "join first"])
def test_one_that_was_joined_lives_on(node: Node, order: str) -> None:  # S41
    invocation = node.invoke()
    target = node.spawn(invocation)
    if order == "answer first":
        answers(node, invocation, target)
    connection = node.admit(target, 1, invocation)
    node.gateway(m.Joined(connection))
    if order == "join first":
        answers(node, invocation, target)
    node.done(node.table.gateway_lost())
    assert node.killed() == []
    node.gateway(m.Joined(connection))
    assert node.log == []


def test_one_that_was_admitted_and_not_joined_does_not(node: Node) -> None:
    invocation = node.invoke()
    target = node.spawn(invocation)
    answers(node, invocation, target)
    node.admit(target, 1, invocation)
    node.done(node.table.gateway_lost())
    assert node.killed() == [node.worker[target]]


def test_one_that_got_a_connection_by_transfer_lives_on(node: Node) -> None:  # S47
    invocation = node.invoke()
    target, other = node.spawn(invocation), node.spawn(invocation)
    connection = node.admit(other, 1)
    answers(node, invocation, target)
    node.gateway(m.Retarget(node.number(), connection, target))
    node.done(node.table.gateway_lost())
    assert node.killed() == []


def test_an_answer_to_a_dead_gateway_is_joined_by_nobody(node: Node) -> None:
    invocation = node.invoke()
    target = node.spawn(invocation)
    node.done(node.table.gateway_lost())
    assert node.killed() == []
    answers(node, invocation, target)
    assert node.killed() == [node.worker[target]]


def test_what_is_no_target_of_its_own_is_left_alone(node: Node) -> None:
    root = node.spawn(node.invoke())
    invocation = node.invoke()
    node.done(node.table.gateway_lost())
    node.says(root, m.ExitReport(make_reason("normal"), node.spawn(root)))
    assert node.killed() == []
    for target in (root, STRANGER, "nobody", invocation, "", None):
        answers(node, invocation, target)
        assert node.killed() == [], target
        node.gateway(m.RequestInvocation(node.number(), "t:f"))
        [granted] = node.to_gateway()
        invocation = granted[1]
