"""Upgrade, rule by rule (S35). Any order of events is the business of `test_table_machine`."""

from __future__ import annotations

import signal

import pytest
from wsrelay.kernel.core.effects import KillWorker, PrepareUpgrade, ProbeDue, SendToWorker, SetTimer, StartUpgraded
from wsrelay.kernel.core.endings import WaitStatus
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import HostLimits
from wsrelay.kernel.wire.reason import make_reason

from .node import SIGKILL, Node

EXITED = WaitStatus(0)
XCPU = signal.SIGXCPU


@pytest.fixture
def node() -> Node:
    return Node(max_processes=5)


@pytest.fixture
def root(node: Node) -> str:
    return node.spawn(node.invoke())


def grant(node: Node, pid: str, entry: str | None = None) -> PrepareUpgrade:
    assert node.says(pid, m.Upgrade(node.number(), entry, b"args")) == []
    [prepared] = node.log
    assert isinstance(prepared, PrepareUpgrade)
    return prepared


def upgrade(node: Node, pid: str, cpu: int = 0) -> None:
    """All of it, up to the fork."""
    grant(node, pid)
    assert node.says(pid, m.HandedOver(cpu)) == []
    node.done(node.table.worker_exited(node.worker[pid], EXITED, node.now))


def test_the_process_and_its_worker_number_stay(node: Node, root: str) -> None:  # S35
    watcher = node.spawn(root)
    ref = node.monitor(watcher, root)
    node.link(watcher, root)
    before = node.table.statistics()
    prepared = grant(node, root, "t:actor")
    assert prepared.start[:3] == (node.worker[root], root, "t:host")
    assert prepared.start.arguments == b"args"
    node.says(root, m.HandedOver(0))
    node.done(node.table.worker_exited(node.worker[root], EXITED, node.now))
    assert node.log == [StartUpgraded(node.worker[root], "t:host", root, "t:actor")]
    assert node.table.statistics() == before
    node.done(node.table.worker_born(node.worker[root], node.now))
    assert node.dies(root, WaitStatus(3)).kind == "exit:3"
    exits = [record for record in node.to(watcher) if isinstance(record, m.Exit)]
    assert [exit.ref for exit in exits] == [ref]
    assert node.killed() == [node.worker[watcher]]


def test_it_can_be_upgraded_again_and_again(node: Node, root: str) -> None:  # S35
    for _ in range(3):
        upgrade(node, root)
        node.done(node.table.worker_born(node.worker[root], node.now))
    assert node.dies(root, EXITED, make_reason("normal")).clean


def test_without_the_last_frame_the_exit_is_an_exit(node: Node, root: str) -> None:  # S12, S35
    grant(node, root)
    assert node.dies(root, EXITED).kind == "exit:0"


def test_without_the_status_the_last_frame_is_nothing(node: Node, root: str) -> None:  # S12, S35
    grant(node, root)
    node.says(root, m.HandedOver(0))
    assert node.dies(root, SIGKILL).kind == "signal:SIGKILL"


def test_who_is_terminated_is_not_upgraded(node: Node, root: str) -> None:  # S30, S35
    other = node.spawn(root)
    grant(node, other)
    node.says(other, m.HandedOver(0))
    node.says(root, m.Terminate(other))
    assert node.killed() == [node.worker[other]]
    assert node.dies(other, EXITED).kind == "killed"


def test_a_fork_that_fails_is_its_death(node: Node, root: str) -> None:  # S35, S41a
    watcher = node.spawn(root)
    node.monitor(watcher, root)
    upgrade(node, root)
    node.done(node.table.worker_failed(node.worker[root], "host_lost", node.now))
    [exit] = node.to(watcher)
    assert isinstance(exit, m.Exit)
    assert exit.reason.kind == "noconnection"


def test_whom_it_executes_is_killed_and_nobody_is_answered(node: Node, root: str) -> None:  # S34, S35
    node.says(root, m.Execute(node.number(), "t:actor", "t:host", b"", None))
    [started] = node.started()
    upgrade(node, root)
    assert node.log[0] == KillWorker(started.worker)
    node.dies(started.start.pid)
    assert node.to(root) == []
    assert node.table.statistics()["executions"] == 0


def test_who_executes_it_gets_the_value_of_the_new_code(node: Node, root: str) -> None:  # S34, S35
    request = node.number()
    node.says(root, m.Execute(request, "t:actor", "t:host", b"", None))
    [started] = node.started()
    child = started.start.pid
    upgrade(node, child)
    node.dies(child, EXITED, make_reason("normal", value=b"value"))
    [executed] = node.to(root)
    assert isinstance(executed, m.Executed)
    assert (executed.request, executed.reason.value) == (request, b"value")


def test_a_cancel_comes_once_the_new_code_is_there(node: Node, root: str) -> None:  # S10, S29, S35
    other = node.spawn(root)
    node.says(root, m.Cancel(other, None))
    grant(node, other)
    node.says(root, m.Cancel(other, None))
    assert node.to(other) == [m.CancelSignal(root, None)], "the first was for the old code"


# --- limits -----------------------------------------------------------------------------------------------------------


def test_signs_of_life_are_wanted_from_the_new_code() -> None:  # S17, S35
    node = Node(limits=HostLimits(liveness=3.0))
    pid = node.spawn(node.invoke())
    number = node.worker[pid]
    node.done(node.table.worker_born(number, node.now))
    assert node.to(pid) == [m.Probe(1)]
    upgrade(node, pid)
    node.fires(SetTimer(node.now + 1.0, ProbeDue(number)))
    assert node.log == [], "nobody is there to be asked"
    node.done(node.table.worker_born(number, node.now))
    assert [effect.record for effect in node.log if isinstance(effect, SendToWorker)] == [m.Probe(2)]
    for answer in (1, 2):  # the first waited for the new code, and is nothing to it
        node.says(pid, m.Alive(answer))
        assert node.killed() == []
    node.says(pid, m.Alive(2))
    assert node.killed() == [number]


@pytest.mark.parametrize(
    ("used", "status", "kind"),
    [
        ([1500], WaitStatus(None, XCPU, 2), "limit:cpu"),
        ([500, 1500], WaitStatus(None, XCPU, 2), "limit:cpu"),
        ([], WaitStatus(None, XCPU, 2), "signal:SIGXCPU"),
        ([1500], SIGKILL._replace(cpu_limit=1), "signal:SIGKILL"),
        ([1500], SIGKILL._replace(cpu_limit=2), "limit:cpu"),
    ],
)
def test_cpu_time_is_that_of_all_codes(used: list[int], status: WaitStatus, kind: str) -> None:  # S18, S35
    node = Node(limits=HostLimits(cpu=2.0))
    pid = node.spawn(node.invoke())
    for cpu in used:
        upgrade(node, pid, cpu)
    assert node.dies(pid, status).kind == kind


def test_who_has_used_up_its_cpu_time_is_not_upgraded() -> None:  # S18, S35
    node = Node(limits=HostLimits(cpu=2.0))
    pid = node.spawn(node.invoke())
    grant(node, pid)
    node.says(pid, m.HandedOver(2000))
    assert node.dies(pid, EXITED).kind == "limit:cpu"
