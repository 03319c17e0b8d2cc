"""When a limit of its host ends a worker: liveness, memory, CPU time (S17, S18)."""

from __future__ import annotations

import signal

import pytest
from wsrelay.kernel.core.effects import ProbeDue, SetTimer
from wsrelay.kernel.core.endings import WaitStatus
from wsrelay.kernel.core.limits import PROBES
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import HostLimits
from wsrelay.kernel.wire.reason import WireReason, make_reason

from .node import SIGKILL, Node

LIVENESS = 3.0


class Watched:
    """One actor on a host with `limits.liveness`."""

    def __init__(self) -> None:
        self.node = Node(limits=HostLimits(liveness=LIVENESS))
        self.pid = self.node.spawn(self.node.invoke())
        self.number = self.node.worker[self.pid]
        self.born = self.node.now
        self.node.done(self.node.table.worker_born(self.number, self.node.now))

    @property
    def due(self) -> float | None:
        """When it is looked at next, by the last step."""
        return next((timer.deadline for timer in self.node.timers() if timer.event == ProbeDue(self.number)), None)

    def look(self, late: float = 0.0) -> list[tuple[object, ...]]:
        """The time of the next look comes. Returns what the worker is sent."""
        assert self.due is not None
        self.node.now = self.due + late
        self.node.done(self.node.table.timer_fired(ProbeDue(self.number), self.node.now))
        return self.node.to(self.pid)

    def answer(self, number: int) -> None:
        log = self.node.log
        assert self.node.says(self.pid, m.Alive(number)) == []
        assert self.node.killed() == []
        self.node.log = log


# --- liveness ---------------------------------------------------------------------------------------------------------


def test_who_answers_lives_and_is_asked_again() -> None:  # S17
    watched = Watched()
    assert watched.node.to(watched.pid) == [m.Probe(1)]
    for number in range(1, 20):
        watched.answer(number)
        assert watched.look() == [m.Probe(number + 1)]
    assert watched.node.now == pytest.approx(watched.born + 19 * LIVENESS / PROBES)


def test_who_does_not_answer_is_asked_once_and_dies() -> None:  # S17
    watched = Watched()
    watched.answer(1)
    assert watched.look() == [m.Probe(2)]
    asked = watched.node.now
    for _ in range(PROBES - 1):
        assert watched.look() == []
        assert watched.node.killed() == []
    watched.look()
    assert watched.node.now == pytest.approx(asked + LIVENESS)
    assert watched.node.killed() == [watched.number]
    assert watched.due is None
    reason = watched.node.dies(watched.pid)
    assert reason.kind == "limit:liveness"
    assert "3 s" in reason.detail


def test_an_answer_in_the_last_moment_is_one() -> None:  # S17
    watched = Watched()
    for _ in range(PROBES - 1):
        watched.look()
    watched.answer(1)
    assert watched.look() == [m.Probe(2)]
    assert watched.node.killed() == []


def test_reading_from_a_full_channel_is_a_sign_of_life() -> None:  # S17: the question may wait behind much mail
    watched = Watched()
    for _ in range(3 * PROBES):
        watched.node.table.worker_has_read(watched.number)
        assert watched.look() == []
    for _ in range(PROBES - 1):
        watched.look()
        assert watched.node.killed() == []
    watched.look()
    assert watched.node.killed() == [watched.number]


def test_a_look_that_comes_late_says_nothing() -> None:  # S17: it was the supervisor that hung
    watched = Watched()
    for _ in range(PROBES - 1):
        watched.look()
    watched.look(late=LIVENESS)
    assert watched.node.killed() == []
    for _ in range(PROBES):
        watched.look()
    assert watched.node.killed() == [watched.number]


def test_a_function_worker_answers_between_invocations() -> None:  # S17, S57
    node = Node(limits=HostLimits(liveness=LIVENESS))
    invocation = node.invoke()
    number = node.worker[invocation]
    node.returns(invocation)
    node.done(node.table.worker_born(number, node.now))
    node.done(node.table.from_worker(number, m.Alive(1), node.now))
    assert node.killed() == []


@pytest.mark.parametrize("limits", [HostLimits(), HostLimits(liveness=LIVENESS)], ids=["not watched", "watched"])
def test_an_answer_to_nothing_is_a_violation(limits: HostLimits) -> None:  # S11
    node = Node(limits=limits)
    pid = node.spawn(node.invoke())
    node.done(node.table.worker_born(node.worker[pid], node.now))
    node.says(pid, m.Alive(2))
    assert node.killed() == [node.worker[pid]]
    assert node.dies(pid).kind == "protocol"


def test_an_answer_twice_is_a_violation() -> None:  # S11
    watched = Watched()
    watched.answer(1)
    watched.node.says(watched.pid, m.Alive(1))
    assert watched.node.killed() == [watched.number]


def test_without_the_limit_nobody_is_asked() -> None:  # S17: only an opt-in
    node = Node()
    pid = node.spawn(node.invoke())
    assert node.done(node.table.worker_born(node.worker[pid], node.now)) == []


def test_the_dead_are_not_looked_at() -> None:
    watched = Watched()
    watched.node.dies(watched.pid)
    assert watched.node.table.timer_fired(ProbeDue(watched.number), watched.node.now + LIVENESS) == []
    assert not [effect for effect in watched.node.log if isinstance(effect, SetTimer)]


# --- memory -----------------------------------------------------------------------------------------------------------


def test_memory() -> None:  # S12, S18
    node = Node(limits=HostLimits(memory=64 << 20))
    pid = node.spawn(node.invoke())
    assert node.done(node.table.worker_measured(node.worker[pid], 64 << 20)) == []
    node.done(node.table.worker_measured(node.worker[pid], 80 << 20))
    assert node.killed() == [node.worker[pid]]
    node.done(node.table.worker_measured(node.worker[pid], 90 << 20))
    assert node.killed() == []
    reason = node.dies(pid)
    assert str(reason) == "limit:oom: it had 80 MiB of memory, limits.memory is 64 MiB"
    assert node.table.worker_measured(node.worker[pid], 90 << 20) == []


def test_memory_of_a_host_without_a_limit() -> None:
    node = Node()
    pid = node.spawn(node.invoke())
    assert node.done(node.table.worker_measured(node.worker[pid], 1 << 40)) == []


# --- CPU time ---------------------------------------------------------------------------------------------------------

XCPU = signal.SIGXCPU


@pytest.mark.parametrize(
    ("limit", "status", "kind"),
    [
        (2.0, WaitStatus(None, XCPU, 3), "limit:cpu"),
        (2.0, WaitStatus(None, XCPU, None), "limit:cpu"),
        (0.5, WaitStatus(None, XCPU, 2), "limit:cpu"),
        (2.0, WaitStatus(None, XCPU, 2), "signal:SIGXCPU"),  # somebody else sent it
        (2.0, WaitStatus(None, XCPU, 1), "signal:SIGXCPU"),  # for a limit of the handler's own
        (None, WaitStatus(None, XCPU, 3), "signal:SIGXCPU"),
        (2.0, SIGKILL._replace(cpu_limit=3), "limit:cpu"),  # it had ignored SIGXCPU
        (0.5, SIGKILL._replace(cpu_limit=2), "limit:cpu"),
        (2.0, SIGKILL._replace(cpu_limit=2), "signal:SIGKILL"),
        (2.0, SIGKILL, "signal:SIGKILL"),
        (None, SIGKILL._replace(cpu_limit=3), "signal:SIGKILL"),
        (2.0, WaitStatus(None, signal.SIGSEGV, 3), "signal:SIGSEGV"),
        (2.0, WaitStatus(3), "exit:3"),
    ],
)
def test_cpu_time_of_an_actor(limit: float | None, status: WaitStatus, kind: str) -> None:  # S18
    node = Node(limits=HostLimits(cpu=limit))
    pid = node.spawn(node.invoke())
    assert node.dies(pid, status).kind == kind


def test_the_runtimes_own_reason_stands_before_the_cpu_limit() -> None:  # S12
    node = Node(limits=HostLimits(cpu=2.0))
    pid = node.spawn(node.invoke())
    node.says(pid, m.Terminate(pid))
    assert node.dies(pid, SIGKILL._replace(cpu_limit=3)).kind == "killed"


def test_an_exit_report_stands_before_the_cpu_limit() -> None:  # S12: a handler that handles SIGXCPU
    node = Node(limits=HostLimits(cpu=2.0))
    pid = node.spawn(node.invoke())
    report = make_reason("exception", "TimeoutError")
    assert node.dies(pid, WaitStatus(1), report).kind == "exception"


def test_cpu_time_of_an_invocation() -> (
    None
):  # S18, S57: the kernel keeps no hard limit, which could not be raised again
    for status, kind in ((WaitStatus(None, XCPU, 70), "limit:cpu"), (SIGKILL._replace(cpu_limit=70), "signal:SIGKILL")):
        node = Node(limits=HostLimits(cpu=2.0))
        assert node.dies(node.invoke(), status).kind == kind


# --- a cgroup ---------------------------------------------------------------------------------------------------------

RAISED = make_reason("exception", "BlockingIOError: no", error="Traceback …")


@pytest.mark.parametrize(
    ("limits", "status", "report", "kind"),
    [
        (HostLimits(memory=1 << 20), SIGKILL._replace(out_of_memory=True), None, "limit:oom"),
        (HostLimits(memory=1 << 20), SIGKILL, None, "signal:SIGKILL"),
        (HostLimits(memory=1 << 20), WaitStatus(1, out_of_memory=True), RAISED, "exception"),
        (HostLimits(), SIGKILL._replace(out_of_memory=True), None, "signal:SIGKILL"),
        (HostLimits(processes=8), WaitStatus(1, refused_forks=True), RAISED, "limit:processes"),
        (HostLimits(processes=8), WaitStatus(1, refused_forks=True), None, "limit:processes"),
        (HostLimits(processes=8), WaitStatus(None, signal.SIGABRT, refused_forks=True), None, "limit:processes"),
        (HostLimits(processes=8), WaitStatus(0, refused_forks=True), make_reason("normal"), "normal"),
        (HostLimits(processes=8), WaitStatus(1, refused_forks=True), make_reason("limit:mailbox"), "limit:mailbox"),
        (HostLimits(processes=8), WaitStatus(1), RAISED, "exception"),
        (HostLimits(), WaitStatus(1, refused_forks=True), RAISED, "exception"),
        (
            HostLimits(processes=8, memory=1),
            SIGKILL._replace(out_of_memory=True, refused_forks=True),
            None,
            "limit:oom",
        ),
    ],
)
def test_what_a_cgroup_has_done(
    limits: HostLimits, status: WaitStatus, report: WireReason | None, kind: str
) -> None:  # S12, S18
    node = Node(limits=limits)
    pid = node.spawn(node.invoke())
    reason = node.dies(pid, status, report)
    assert reason.kind == kind
    if kind == "limit:processes" and report is not None:
        assert reason.detail.endswith(f"limits.processes is 8: {report.detail}")
        assert reason.error == report.error, "who watches is told where it was raised"
