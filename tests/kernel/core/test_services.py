"""Supervised services, rule by rule (S36 to S39)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from wsrelay.kernel.core.effects import (
    GraceExpired,
    KillWorker,
    RestartDue,
    SendToWorker,
    ServiceChanged,
    StartOverdue,
    StartWorker,
)
from wsrelay.kernel.core.endings import WaitStatus
from wsrelay.kernel.core.service_states import ALIVE, TRANSITIONS, Input, State, render_diagram
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import Lifecycle, Restart, Service
from wsrelay.kernel.wire.errors import Invalid, NotFound
from wsrelay.kernel.wire.reason import make_reason

from .node import Node

PAGE = (Path(__file__).parents[3] / "docs" / "services.md").read_text()
CLEAN = (WaitStatus(0), make_reason("normal"))


def service(name: str, *requires: str, register: str | None = None, **restart: Any) -> Service:
    """`start_timeout` and others of the lifecycle go there, the rest to its restart policy."""
    lifecycle = {key: restart.pop(key) for key in list(restart) if key in Lifecycle.__dataclass_fields__}
    policy = dataclasses.replace(Restart(jitter=0.0), **restart)
    return Service(
        f"t:{name}", "t:actor", "t:host", b"args", register, Lifecycle(requires=requires, restart=policy, **lifecycle)
    )


# --- the table of states ----------------------------------------------------------------------------------------------


def test_the_page_shows_the_table() -> None:
    assert render_diagram() in PAGE, f"the states have changed; expected:\n\n{render_diagram()}"
    assert all(f"`{state.value}`" in PAGE for state in State)


def test_every_state_can_be_reached_and_left() -> None:
    reached = {State.STOPPED}
    while more := {new for (old, _), new in TRANSITIONS.items() if old in reached} - reached:
        reached |= more
    assert reached == set(State)
    assert {old for old, _ in TRANSITIONS} == set(State)
    assert {input for _, input in TRANSITIONS} == set(Input)


@pytest.mark.parametrize("state", State)
def test_a_state_without_a_process_does_not_end(state: State) -> None:
    ends = {Input.RESTART, Input.FINISH, Input.FAIL, Input.END}
    assert (state in ALIVE) == any((state, end) in TRANSITIONS for end in ends)


@pytest.mark.parametrize("state", State)
def test_only_start_leads_out_of_rest(state: State) -> None:  # S37, S39
    at_rest = {State.STOPPED, State.FINISHED, State.FAILED}
    if state in at_rest:
        assert [input for old, input in TRANSITIONS if old is state] == [Input.START]


# --- start ------------------------------------------------------------------------------------------------------------


def test_start_in_dependency_order() -> None:  # S39
    node = Node(service("c", "t:b"), service("b", "t:a"), service("a"), service("off", auto_start=False))
    assert [node.state(f"t:{name}") for name in ("a", "b", "c", "off")] == ["starting", "waiting", "waiting", "stopped"]
    [started] = [start for start in node.started() if start.start.pid]
    assert started.start[3:7] == ("t:actor", "file:///actor.py", "main", b"args")
    node.born("t:a")
    assert (node.state("t:a"), node.state("t:b"), node.state("t:c")) == ("running", "starting", "waiting")
    node.born("t:b")
    node.born("t:c")
    assert node.state("t:c") == "running"


def test_what_is_required_starts_too() -> None:  # S39
    node = Node(service("a", auto_start=False), service("b", "t:a"))
    assert node.state("t:a") == "starting"


def test_a_finished_requirement_has_done_its_work() -> None:  # S39
    node = Node(service("a"), service("b", "t:a", auto_start=False))
    node.born("t:a")
    node.dies(node.pid("t:a"), *CLEAN)
    assert node.state("t:a") == "finished"
    assert not node.restarting()
    node.done(node.table.start_service("t:b", node.now))
    assert node.state("t:b") == "starting"


def test_one_that_is_not_forked_in_time_is_killed_and_comes_back() -> None:  # S39, S38
    node = Node(service("a", start_timeout=3.0), service("b", "t:a"))
    [overdue] = [timer for timer in node.timers() if isinstance(timer.event, StartOverdue)]
    assert overdue.deadline == node.now + 3.0
    pid = node.pid("t:a")
    node.fires(overdue)
    assert node.killed() == [node.worker[pid]]
    node.done(node.table.worker_failed(node.worker[pid], "host_lost", node.now))
    assert (node.state("t:a"), node.state("t:b")) == ("backing off", "waiting")
    assert node.restarting()


def test_start_timeout_is_nothing_to_one_that_was_forked() -> None:
    node = Node(service("a"))
    [overdue] = [timer for timer in node.timers() if isinstance(timer.event, StartOverdue)]
    node.born("t:a")
    node.fires(overdue)
    assert node.log == []


def test_an_unknown_service() -> None:
    node = Node()
    for call in (node.table.start_service, node.table.stop_service):
        with pytest.raises(NotFound, match="t:x"):
            call("t:x", node.now)


# --- restart ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "clean", "abnormal"),
    [
        ("permanent", "backing off", "backing off"),
        ("transient", "finished", "backing off"),
        ("temporary", "finished", "failed"),
    ],
)
def test_restart_types(type: str, clean: str, abnormal: str) -> None:  # S36, S49
    node = Node(service("a", type=type), service("b", type=type))
    node.born("t:a")
    node.dies(node.pid("t:a"), *CLEAN)
    assert node.state("t:a") == clean
    assert node.restarting() == (clean == "backing off")
    node.born("t:b")
    node.crashes("t:b")
    assert node.state("t:b") == abnormal
    assert node.restarting() == (abnormal == "backing off")


def test_a_restart_has_a_new_pid_and_the_name_in_the_same_step() -> None:  # S36, S5
    node = Node(service("a", register="room"))
    client = node.invoke()

    def lookup() -> Any:
        [reply] = node.says(client, m.Lookup(node.number(), "room"))
        return reply.value

    old = node.born("t:a")
    assert lookup() == old
    timer = node.crashes("t:a")
    assert timer is not None
    assert lookup() is None
    node.fires(timer)
    new = node.pid("t:a")
    assert new != old
    assert lookup() == new, "before it was forked"


def test_the_name_of_a_service_is_kept_for_it() -> None:  # S36, S32, S5
    node = Node(service("a", register="room"))
    client = node.invoke()
    pid = node.born("t:a")
    register = m.Register(node.number(), "room", client)
    assert node.says(client, register)[0][1::2] == ("AlreadyExists", pid)
    [denied] = node.says(client, m.Unregister(node.number(), "room"))
    assert denied[1] == "NotPermitted"
    node.says(pid, m.Unregister(node.number(), "room"))
    named = m.SpawnNamed(node.number(), "t:actor", "t:host", b"", False, False, "room")
    for record in (register, named):
        [failed] = node.says(client, record)
        assert failed[1::2] == ("AlreadyExists", None)
        assert "t:a" in failed[2]
    request = node.number()
    assert node.says(pid, m.Register(request, "room", pid)) == [m.Reply(request, None)]


def test_backoff_grows_and_starts_again_after_a_stable_run() -> None:  # S38
    node = Node(service("a", stable_threshold=5.0))
    delays = []
    for life in (0.0, 4.9, 0.0, 5.0, 0.0):
        node.born("t:a")
        node.now += life
        timer = node.crashes("t:a")
        assert timer is not None
        delays.append(timer.deadline - node.now)
        node.fires(timer)
    assert delays == pytest.approx([1.0, 2.0, 4.0, 1.0, 2.0])


def test_jitter_comes_from_the_argument() -> None:  # S38
    node = Node(service("a", initial_delay=10.0, jitter=0.2))
    node.random = 0.0
    node.born("t:a")
    timer = node.crashes("t:a")
    assert timer is not None
    assert timer.deadline == node.now + 8.0


def test_too_many_restarts_are_given_up_and_it_shows() -> None:  # S37
    node = Node(service("a", initial_delay=0.0, intensity=2, period=10.0), service("b", "t:a", auto_start=False))
    for _ in range(2):
        node.born("t:a")
        timer = node.crashes("t:a")
        assert timer is not None
        assert node.restarting()
        node.fires(timer)
    node.born("t:a")
    assert node.crashes("t:a") is None
    assert not node.restarting(), "clients get 1011"
    [change] = [effect for effect in node.log if isinstance(effect, ServiceChanged)]
    assert (change.service, change.state) == ("t:a", State.FAILED)
    assert "signal:SIGSEGV" in change.detail
    assert "more than 2 restarts within 10 s" in change.detail
    node.done(node.table.start_service("t:b", node.now))
    assert (node.state("t:a"), node.state("t:b")) == ("failed", "waiting"), "nothing restarts it until it is told to"
    node.done(node.table.start_service("t:a", node.now))
    for _ in range(2):
        node.born("t:a")
        timer = node.crashes("t:a")
        assert timer is not None, "its past is forgotten"
        node.fires(timer)


def test_a_restart_counts_when_it_is_made() -> None:  # S37
    node = Node(service("a", initial_delay=0.0, intensity=1, period=10.0))
    node.born("t:a")
    timer = node.crashes("t:a")
    assert timer is not None
    node.now += 5.0  # the timer comes late
    node.fires(timer)
    node.born("t:a")
    node.now += 6.0
    assert node.crashes("t:a") is None, "two within 6 s"
    assert node.state("t:a") == "failed"


def test_a_refused_spawn_counts_like_a_death() -> None:  # S37, S38
    node = Node(service("a", intensity=1), service("b", type="temporary"), max_processes=0)
    assert (node.state("t:a"), node.state("t:b")) == ("backing off", "failed")
    assert any("max_processes" in effect.detail for effect in node.log if isinstance(effect, ServiceChanged))
    [timer] = [timer for timer in node.timers() if isinstance(timer.event, RestartDue)]
    node.fires(timer)
    assert node.state("t:a") == "failed"


def test_a_death_touches_no_other_service() -> None:  # S42
    node = Node(service("a"), service("b", "t:a"))
    node.born("t:a")
    node.born("t:b")
    node.crashes("t:a")
    assert node.killed() == []
    assert node.state("t:b") == "running"
    node.crashes("t:b")
    [timer] = [timer for timer in node.timers() if isinstance(timer.event, RestartDue)]
    node.fires(timer)
    assert node.state("t:b") == "starting", "a restart waits for nobody: its clients were promised it"


def test_cancel_and_terminate_by_others_are_ends_like_any() -> None:  # S36, S29, S30
    node = Node(service("a"), service("b"))
    client = node.invoke()
    node.born("t:a")
    node.says(client, m.Cancel(node.pid("t:a"), None))
    node.dies(node.pid("t:a"), WaitStatus(0), make_reason("cancelled"))
    assert node.state("t:a") == "finished"
    node.born("t:b")
    node.says(client, m.Terminate(node.pid("t:b")))
    node.dies(node.pid("t:b"))
    assert node.state("t:b") == "backing off"


# --- stop -------------------------------------------------------------------------------------------------------------


def test_stop_is_cancel_then_sigkill_in_reverse_order() -> None:  # S39
    node = Node(service("a", stop_timeout=2.0), service("b", "t:a", stop_timeout=3.0, type="permanent"))
    for id in ("t:a", "t:b"):
        node.born(id)
    assert node.table.stop_time() == 5.0
    a, b = node.pid("t:a"), node.pid("t:b")
    node.done(node.table.stop_service("t:a", node.now))
    assert (node.state("t:a"), node.state("t:b")) == ("retiring", "stopping")
    assert (node.to(a), node.to(b)) == ([], [m.CancelSignal("", 3000)])
    [grace] = node.timers()
    node.fires(grace)
    assert node.killed() == [node.worker[b]]
    assert node.dies(b).kind == "killed"
    assert not node.restarting()
    assert (node.state("t:a"), node.state("t:b")) == ("stopping", "stopped")
    assert node.to(a) == [m.CancelSignal("", 2000)]
    node.dies(a, WaitStatus(0), make_reason("cancelled"))
    assert node.states() == "stopped stopped"
    assert node.timers() == []


def test_nothing_restarts_after_stop() -> None:  # S39
    node = Node(service("a", type="permanent"), service("b", type="permanent"), service("c", "t:b"))
    node.born("t:a")
    timer = node.crashes("t:a")
    assert timer is not None
    for id in ("t:a", "t:b"):
        node.done(node.table.stop_service(id, node.now))
    assert (node.state("t:a"), node.state("t:c")) == ("stopped", "stopped")
    node.dies(node.pid("t:b"), *CLEAN)
    node.fires(timer)
    assert node.log == []
    assert node.states() == "stopped stopped stopped"


def test_an_old_timer_does_not_shorten_a_new_delay() -> None:  # S38
    node = Node(service("a", initial_delay=10.0))
    node.born("t:a")
    old = node.crashes("t:a")
    assert old is not None
    node.done(node.table.stop_service("t:a", node.now))
    node.now += 5.0
    node.done(node.table.start_service("t:a", node.now))
    node.born("t:a")
    new = node.crashes("t:a")
    assert new is not None
    node.fires(old)
    assert node.log == []
    node.fires(new)
    assert node.state("t:a") == "starting"


def test_one_that_is_being_stopped_cannot_be_started_yet() -> None:  # S39
    node = Node(service("a"), service("b", "t:a", auto_start=False))
    node.born("t:a")
    node.done(node.table.stop_service("t:a", node.now))
    for id in ("t:a", "t:b"):
        with pytest.raises(Invalid, match="t:a is being stopped"):
            node.table.start_service(id, node.now)
    node.dies(node.pid("t:a"))
    node.done(node.table.start_service("t:b", node.now))
    assert (node.state("t:a"), node.state("t:b")) == ("starting", "waiting")


def test_shutdown_stops_services_in_reverse_order_and_others_at_once() -> None:  # S39
    node = Node(service("a", stop_timeout=2.0), service("b", "t:a", stop_timeout=3.0))
    for id in ("t:a", "t:b"):
        node.born(id)
    a, b = node.pid("t:a"), node.pid("t:b")
    actor = node.spawn(node.invoke())
    node.done(node.table.cancel_all(node.now, 1.0))
    assert (node.to(a), node.to(b), node.to(actor)) == ([], [m.CancelSignal("", 3000)], [m.CancelSignal("", 1000)])
    assert sorted(timer.deadline - node.now for timer in node.timers()) == [1.0, 3.0]
    assert all(isinstance(timer.event, GraceExpired) for timer in node.timers())
    node.dies(b, WaitStatus(1))
    assert node.to(a) == [m.CancelSignal("", 2000)]
    with pytest.raises(Invalid, match="stopping"):
        node.table.start_service("t:b", node.now)
    node.dies(a, WaitStatus(1))
    assert not [effect for effect in node.log if isinstance(effect, StartWorker)]


def test_kill_all_kills_in_reverse_order() -> None:  # S39
    node = Node(service("a", type="permanent"), service("b", "t:a"))
    a, b = node.born("t:a"), node.born("t:b")
    node.done(node.table.kill_all())
    services = [effect.worker for effect in node.log if isinstance(effect, KillWorker)]
    assert services[:2] == [node.worker[b], node.worker[a]]
    node.dies(a)
    node.dies(b)
    assert node.states() == "stopped stopped"
    assert not [effect for effect in node.log if isinstance(effect, StartWorker | SendToWorker)]
