"""Named spawn and exec, rule by rule (S5, S34)."""

from __future__ import annotations

import pytest
from wsrelay.kernel.core.effects import ExecutionOverdue, KillWorker, SendToWorker, SetTimer, StartWorker
from wsrelay.kernel.core.endings import WaitStatus
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.reason import WireReason, make_reason

from .node import Node

VALUE = make_reason("normal", value=b"value")


@pytest.fixture
def node() -> Node:
    return Node(max_processes=5)


@pytest.fixture
def root(node: Node) -> str:
    return node.spawn(node.invoke())


def execute(node: Node, caller: str, timeout: int | None = None) -> tuple[int, str]:
    """Returns the request and the child's PID."""
    request = node.number()
    assert node.says(caller, m.Execute(request, "t:actor", "t:host", b"args", timeout)) == []
    [started] = node.started()
    assert started.start.arguments == b"args"
    return request, started.start.pid


def spawn_named(node: Node, parent: str, name: str, entry: str = "t:actor") -> tuple[object, ...]:
    [answer] = node.says(parent, m.SpawnNamed(node.number(), entry, "t:host", b"", True, True, name))
    return answer


# --- named spawn ------------------------------------------------------------------------------------------------------


def test_a_named_spawn_has_its_name_before_its_answer(node: Node, root: str) -> None:  # S5
    answer = spawn_named(node, root, "room")
    assert [type(effect) for effect in node.log] == [StartWorker, SendToWorker]
    assert isinstance(answer, m.Reply)
    request = node.number()
    assert node.says(root, m.Lookup(request, "room")) == [m.Reply(request, answer.value)]
    request = node.number()
    assert node.says(root, m.Unregister(request, "room")) == [m.Reply(request, None)], "who named it may, too"


def test_a_taken_name_spawns_nothing(node: Node, root: str) -> None:  # S5
    holder = spawn_named(node, root, "room")
    assert isinstance(holder, m.Reply)
    before = node.table.statistics()
    for _ in range(4):
        failed = spawn_named(node, root, "room")
        assert failed[1::2] == ("AlreadyExists", holder.value)
        assert len(node.log) == 1
        if node.table.actors() < 5:
            node.spawn(root)  # until the host is full: even then the holder is what the caller wants to know
    assert node.table.statistics()["names"] == before["names"]


def test_a_bad_name_or_entry_spawns_nothing(node: Node, root: str) -> None:  # S3, S5
    assert spawn_named(node, root, "{brace")[1] == "Invalid"
    assert spawn_named(node, root, "room", "t:nothing")[1] == "NotFound"
    request = node.number()
    assert node.says(root, m.Lookup(request, "room")) == [m.Reply(request, None)]


def test_a_name_is_free_again_after_a_death(node: Node, root: str) -> None:  # S5, S15
    node.trap(root)
    first = spawn_named(node, root, "room")
    assert isinstance(first, m.Reply)
    node.dies(str(first.value))
    second = spawn_named(node, root, "room")
    assert isinstance(second, m.Reply)
    assert second.value != first.value


# --- exec -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "report", "kind"),
    [(WaitStatus(0), VALUE, "normal"), (WaitStatus(0), make_reason("cancelled"), "cancelled"), (WaitStatus(3), None, "exit:3")],
)  # fmt: skip
def test_exec_ends_in_the_end_of_the_child(
    node: Node, root: str, status: WaitStatus, report: WireReason | None, kind: str
) -> None:  # S34
    request, child = execute(node, root, 1000)
    [timer] = node.timers()
    reason = node.dies(child, status, report)
    assert reason.kind == kind
    assert node.to(root) == [m.Executed(request, child, reason)], "and no EXIT"
    node.fires(timer)
    assert node.log == []
    node.says(root, m.GiveUp(request))
    assert node.log == []


def test_exec_ends_in_a_timeout(node: Node, root: str) -> None:  # S34
    request, child = execute(node, root, 1500)
    [timer] = node.timers()
    assert timer == SetTimer(node.now + 1.5, ExecutionOverdue(child))
    node.fires(timer)
    [failed] = node.to(root)
    assert failed[:2] == (request, "Timeout")
    assert node.killed() == [node.worker[child]]
    node.dies(child, WaitStatus(0), VALUE)  # it had just ended
    assert node.to(root) == []


def test_the_caller_gives_up(node: Node, root: str) -> None:  # S34
    request, child = execute(node, root)
    assert node.timers() == []
    [failed] = node.says(root, m.GiveUp(request))
    assert failed[:2] == (request, "Timeout"), "every request is answered once"
    assert node.killed() == [node.worker[child]]
    assert node.says(root, m.GiveUp(request)) == []
    assert node.dies(child).kind == "killed"
    assert node.to(root) == []


def test_the_caller_dies(node: Node, root: str) -> None:  # S34
    caller = node.spawn(root)
    children = [execute(node, caller, 1000)[1] for _ in range(2)]
    watch = node.monitor(root, children[0])
    node.dies(caller, WaitStatus(0), make_reason("normal"))
    assert node.killed() == [node.worker[child] for child in children], "even after a clean end"
    reason = node.dies(children[0])
    assert reason.kind == "killed"
    assert node.to(root) == [m.Exit(watch, children[0], reason, None)]


def test_an_invocation_that_returns_takes_its_executions_along(node: Node) -> None:  # S34, S57
    invocation = node.invoke()
    _, child = execute(node, invocation)
    node.returns(invocation)
    assert node.killed() == [node.worker[child]]
    node.dies(child)
    assert not [effect for effect in node.log if isinstance(effect, SendToWorker)], (
        "the worker's next is another process"
    )


def test_what_cannot_be_spawned_cannot_be_executed(node: Node, root: str) -> None:  # S3, S34
    for entry, host in (("t:nothing", "t:host"), ("t:actor", "t:nowhere")):
        [failed] = node.says(root, m.Execute(node.number(), entry, host, b"", 1000))
        assert failed[1] == "NotFound"
        assert len(node.log) == 1
    for _ in range(4):
        execute(node, root)
    [failed] = node.says(root, m.Execute(node.number(), "t:actor", "t:host", b"", 1000))
    assert failed[1] == "LimitExceeded"


def test_a_request_is_executed_once(node: Node, root: str) -> None:  # S11
    request, child = execute(node, root)
    node.says(root, m.Execute(request, "t:actor", "t:host", b"", None))
    assert [effect for effect in node.log if not isinstance(effect, KillWorker)] == []
    node.dies(root)
    assert node.killed() == [node.worker[child]]
