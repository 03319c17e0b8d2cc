"""Services from the moment on at which the runtime is told to stop (S39)."""

from __future__ import annotations

from wsrelay.kernel.core.effects import StartWorker
from wsrelay.kernel.core.endings import WaitStatus

from .node import Node
from .test_services import CLEAN, service


def test_nothing_restarts_while_the_clients_are_sent_away() -> None:  # S39
    node = Node(service("a", type="permanent"), service("b", type="permanent"), service("c"))
    for name in ("a", "b", "c"):
        node.born(f"t:{name}")
    timer = node.crashes("t:c")
    assert timer is not None
    node.done(node.table.end_restarts())
    assert node.states() == "running running stopped"
    node.fires(timer)  # too late
    assert node.states() == "running running stopped"
    node.dies(node.pid("t:a"), *CLEAN)
    assert not node.restarting()
    assert node.state("t:a") == "finished"
    b = node.pid("t:b")
    node.done(node.table.cancel_all(node.now, 0.5))
    node.dies(b, WaitStatus(1))
    assert node.states() == "finished stopped stopped"
    assert not [effect for effect in node.log if isinstance(effect, StartWorker)]


def test_what_waits_does_not_start_any_more() -> None:  # S39
    node = Node(service("a"), service("b", "t:a"))
    node.done(node.table.end_restarts())
    assert node.states() == "starting stopped"
    node.born("t:a")
    assert node.states() == "running stopped"
    assert not node.started()
