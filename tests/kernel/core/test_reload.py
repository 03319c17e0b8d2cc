"""The process table under a new configuration: who goes on, who is replaced, who ends (S37, S39, S49)."""

from __future__ import annotations

import dataclasses
import signal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wsrelay.kernel.core.effects import ProcessEnded, SetTimer, StartWorker
from wsrelay.kernel.core.endings import WaitStatus
from wsrelay.kernel.core.service_states import State
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import RELOAD_TOPIC, Application, Entry, HostConfiguration, HostLimits, Service
from wsrelay.kernel.wire.errors import NotFound
from wsrelay.kernel.wire.reason import make_reason

from .node import Node
from .test_services import CLEAN, service


def application(*services: Service, functions: int = 2, **changes: Any) -> Application:
    """What a `Node` runs, with other services."""
    made = Application(
        hosts={
            "t:host": HostConfiguration("t:host", max_processes=3, functions=functions),
            "t:none": HostConfiguration("t:none", functions=0),
        },
        processes={"t:actor": Entry("t:actor", "file:///actor.py", "main")},
        functions={"t:f": Entry("t:f", "file:///f.py", "f"), "t:never": Entry("t:never", "file:///f.py", "g")},
        function_hosts={"t:f": "t:host", "t:never": "t:none"},
        services={each.id: each for each in services},
    )
    return dataclasses.replace(made, **changes)


def reconfigure(node: Node, made: Application) -> None:
    node.done(node.table.reconfigure(made, node.now))


# --- services ---------------------------------------------------------------------------------------------------------


def test_a_service_is_replaced_when_its_process_has_ended() -> None:  # S36, S39, S49
    node = Node(service("a", register="name", stop_timeout=2.0))
    old = node.born("t:a")
    node.done(node.table.replace_service("t:a", node.now))
    assert node.state("t:a") == "replacing"
    assert node.to(old) == [m.CancelSignal("", 2000)]
    assert node.started() == []
    node.dies(old, *CLEAN)
    assert node.restarting(), "its clients are told 1012, or are held, however it ended"
    [started] = node.started()
    assert started.start.pid == node.pid("t:a") != old
    assert node.state("t:a") == "starting"
    node.born("t:a")
    assert node.state("t:a") == "running"


def test_who_does_not_end_is_killed() -> None:  # S39
    node = Node(service("a", stop_timeout=2.0))
    old = node.born("t:a")
    node.done(node.table.replace_service("t:a", node.now))
    [timer] = node.timers()
    node.fires(timer)
    assert node.killed() == [node.worker[old]]
    node.dies(old)
    assert node.state("t:a") == "starting"


def test_a_replacement_counts_as_no_restart() -> None:  # S37
    node = Node(service("a", intensity=1, initial_delay=1.0))
    for _ in range(3):
        old = node.born("t:a")
        node.done(node.table.replace_service("t:a", node.now))
        node.dies(old, *CLEAN)
    node.born("t:a")
    assert node.crashes("t:a") is not None


def test_only_what_runs_is_replaced() -> None:  # S37
    node = Node(service("a", type="temporary"), service("off", auto_start=False), service("b"))
    node.born("t:a")
    node.crashes("t:a")
    node.born("t:b")
    node.crashes("t:b")
    before = node.states()
    for name in ("a", "off", "b"):
        node.done(node.table.replace_service(f"t:{name}", node.now))
    assert (node.states(), node.state("t:a"), node.state("t:off")) == (before, "failed", "stopped")
    with pytest.raises(NotFound):
        node.table.replace_service("t:x", node.now)


def test_stop_while_it_is_replaced() -> None:  # S39
    node = Node(service("a"), service("b"))
    for name in ("a", "b"):
        node.born(f"t:{name}")
        node.done(node.table.replace_service(f"t:{name}", node.now))
    node.done(node.table.stop_service("t:a", node.now))
    node.dies(node.pid("t:a"), *CLEAN)
    assert node.state("t:a") == "stopped"
    node.done(node.table.end_restarts())
    node.dies(node.pid("t:b"), *CLEAN)
    assert node.state("t:b") == "finished"
    assert not node.restarting()


def test_services_come_go_and_change() -> None:  # S39
    node = Node(service("a"), service("b", "t:a"), service("c", "t:b"))
    for name in "abc":
        node.born(f"t:{name}")
    kept = node.pid("t:a")
    reconfigure(node, application(service("a", stop_timeout=9.0), service("d", "t:a")))
    assert node.pid("t:a") == kept
    assert [node.state(f"t:{name}") for name in "bcd"] == ["retiring", "stopping", "stopped"]
    node.dies(node.pid("t:c"), *CLEAN)
    assert "t:c" not in node.table.services()
    assert node.state("t:b") == "stopping"
    node.dies(node.pid("t:b"), *CLEAN)
    assert list(node.table.services()) == ["t:a", "t:d"]
    node.done(node.table.start_service("t:d", node.now))
    node.born("t:d")
    node.done(node.table.replace_service("t:a", node.now))
    assert node.to(kept) == [m.CancelSignal("", 9000)]


def test_a_service_that_comes_back_while_it_stops() -> None:
    node = Node(service("a"))
    old = node.born("t:a")
    reconfigure(node, application())
    reconfigure(node, application(service("a")))
    node.dies(old, *CLEAN)
    assert node.state("t:a") == "stopped"
    node.done(node.table.start_service("t:a", node.now))
    assert node.state("t:a") == "starting"


def test_a_backoff_that_nobody_waits_for_any_more() -> None:
    node = Node(service("a"))
    node.born("t:a")
    timer = node.crashes("t:a")
    assert timer is not None
    reconfigure(node, application())
    assert node.table.services() == {}
    node.fires(timer)
    assert node.started() == []


def test_a_crash_after_the_reload_starts_what_is_configured_now() -> None:
    node = Node(service("a"))
    node.born("t:a")
    reconfigure(node, application(dataclasses.replace(service("a"), arguments=b"new")))
    timer = node.crashes("t:a")
    assert timer is not None
    node.fires(timer)
    assert node.started()[0].start.arguments == b"new"


def test_a_name_that_a_stranger_has_is_the_services_when_he_is_gone() -> None:  # S32
    node = Node()
    stranger = node.spawn(node.invoke())
    node.says(stranger, m.Register(node.number(), "name", stranger))
    reconfigure(node, application(service("a", register="name")))
    node.done(node.table.start_service("t:a", node.now))
    assert node.state("t:a") == "backing off"
    [timer] = node.timers()
    node.dies(stranger)
    node.fires(timer)
    assert node.state("t:a") == "starting"


def test_new_code_is_told_to_who_wants_to_know() -> None:
    node = Node(service("a"), service("off", auto_start=False))
    node.born("t:a")
    node.done(node.table.notify_service("t:a"))
    assert node.to(node.pid("t:a")) == [m.Deliver("", RELOAD_TOPIC, b"\xc0")]
    node.done(node.table.notify_service("t:off"))
    assert node.log == []


# --- function workers -------------------------------------------------------------------------------------------------


def test_function_workers_are_replaced_as_they_become_free() -> None:  # S57
    node = Node()
    busy = node.invoke()
    [free] = set(node.table.workers()) - {node.worker[busy]}
    node.done(node.table.renew_functions("t:host"))
    assert node.killed() == [free]
    assert len(node.started()) == 1
    node.returns(busy)
    assert node.killed() == [node.worker[busy]]
    assert len(node.started()) == 1
    for worker in (free, node.worker[busy]):
        node.done(node.table.worker_exited(worker, WaitStatus(None, signal.SIGKILL), node.now))
        assert node.started() == []
        assert node.timers() == []
    assert node.worker[node.invoke()] not in (free, node.worker[busy])


def test_who_waits_for_a_worker_waits_on() -> None:
    node = Node()
    running = [node.invoke(), node.invoke()]
    waiting = [node.number(), node.number()]
    for request in waiting:
        node.gateway(m.RequestInvocation(request, "t:f"))
    reconfigure(node, application())
    assert node.to_gateway() == []
    node.done(node.table.renew_functions("t:host"))
    node.returns(running[0])
    assert [record.request for record in node.to_gateway() if isinstance(record, m.Granted)] == waiting[:1]
    reconfigure(node, dataclasses.replace(application(), functions={}, function_hosts={}))
    assert [record[:2] for record in node.to_gateway()] == [(waiting[1], "NotFound")]


def test_a_pool_shrinks_and_a_host_goes() -> None:
    node = Node()
    busy = node.invoke()
    reconfigure(node, application(functions=1))
    assert len(node.killed()) == 1
    node.returns(busy)
    assert node.killed() == []
    other = {"t:other": HostConfiguration("t:other", functions=1)}
    entries = application().functions
    reconfigure(node, application(hosts=other, function_hosts=dict.fromkeys(entries, "t:other")))
    assert node.killed() == [node.worker[busy]]
    node.done(node.table.renew_functions("t:other"))
    assert [start.host for start in node.started()] == ["t:other"]


def test_limits_are_those_of_the_workers_start() -> None:
    node = Node(limits=HostLimits(memory=100))
    old = node.spawn(node.invoke())
    host = HostConfiguration("t:host", max_processes=3, functions=2, limits=HostLimits(memory=10))
    reconfigure(node, application(hosts={"t:host": host, "t:none": HostConfiguration("t:none", functions=0)}))
    new = node.spawn(node.invoke())
    node.done(node.table.worker_measured(node.worker[old], 50))
    assert node.killed() == []
    node.done(node.table.worker_measured(node.worker[new], 50))
    assert node.killed() == [node.worker[new]]


# --- any sequence -----------------------------------------------------------------------------------------------------

STEPS = st.one_of(
    st.tuples(st.just("reconfigure"), st.lists(st.sampled_from("abcd"), unique=True), st.integers(1, 3)),
    st.tuples(st.just("replace"), st.sampled_from("abcd"), st.just(0)),
    st.tuples(st.just("die"), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("born"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("renew"), st.just(0), st.just(0)),
    st.tuples(st.just("invoke"), st.just(0), st.just(0)),
    st.tuples(st.just("return"), st.integers(0, 9), st.just(0)),
    st.tuples(st.just("time"), st.just(0), st.just(0)),
)


class Life:
    """Performs steps, checks the invariants after each, and knows what is alive."""

    def __init__(self) -> None:
        self.node = Node(service("a"), service("b", "t:a"))
        self.timers: list[SetTimer] = []
        self.running: list[str] = []
        self.configured = {"t:a", "t:b"}
        self.ended: set[int] = set()
        self.take()

    def take(self) -> None:
        self.timers += self.node.timers()
        self.running += [record.pid for record in self.node.to_gateway() if isinstance(record, m.Granted)]
        gone = {effect.pid for effect in self.node.log if isinstance(effect, ProcessEnded)}
        self.running = [pid for pid in self.running if pid not in gone]
        for effect in self.node.log:
            assert not isinstance(effect, StartWorker) or effect.worker not in self.ended

    def do(self, step: tuple[Any, Any, Any]) -> None:
        node, (what, which, how) = self.node, step
        match what:
            case "reconfigure":
                made = [
                    service(name, *([f"t:{before}"] if before else ()))
                    for before, name in zip(["", *which], which, strict=False)
                ]
                self.configured = {each.id for each in made}
                reconfigure(node, application(*made, functions=how))
            case "replace" if f"t:{which}" in self.configured:
                node.done(node.table.replace_service(f"t:{which}", node.now))
            case "die" | "born":
                alive = node.table.workers()
                worker = alive[which % len(alive)] if alive else 0
                if what == "born":
                    node.done(node.table.worker_born(worker, node.now))
                else:
                    self.ended.add(worker)
                    node.done(
                        node.table.worker_exited(worker, WaitStatus(None, signal.SIGSEGV if how else 9), node.now)
                    )
            case "renew":
                node.done(node.table.renew_functions("t:host"))
            case "invoke":
                node.gateway(m.RequestInvocation(node.number(), "t:f"))
            case "return" if self.running:
                pid = self.running[which % len(self.running)]
                node.done(
                    node.table.from_worker(node.worker[pid], m.InvocationEnded(pid, make_reason("normal")), node.now)
                )
            case "time" if self.timers:
                node.fires(self.timers.pop(0))
            case _:
                return
        self.take()


@given(st.lists(STEPS, max_size=60))
@example([("reconfigure", ["b"], 1), ("reconfigure", ["a", "b"], 1)])  # a stops, and then is required again
@settings(max_examples=150)
def test_the_invariants_hold_through_any_reloads(steps: list[tuple[Any, Any, Any]]) -> None:
    life = Life()
    for step in steps:
        life.do(step)
    alive = {
        id for id, (state, _) in life.node.table.services().items() if state not in (State.STOPPING, State.RETIRING)
    }
    assert alive <= life.configured <= set(life.node.table.services())
