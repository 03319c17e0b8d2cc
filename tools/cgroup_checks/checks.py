"""The checks: each is a function; they run in order and build on each other's service."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from service_checks.application import WSRELAY
from service_checks.asking import (
    close_code,
    exposure,
    journal,
    processes,
    run,
    settings,
    show,
    supervisor,
    wait_active,
    wait_until,
)
from service_checks.running import Check
from wsrelay.kernel.core.enforcement import SANDBOX_ABI, SIGNALS_ABI
from wsrelay.kernel.shell.machine import landlock_abi

from .application import APPLICATION, CPUS, HOSTS, MEMORY, PROCESSES, UNIT, configure
from .groups import count, group_of, members, read, reason_of, unit_group, worker, workers_groups

MOST_EXPOSED = 2.5
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """Add a check."""
    CHECKS.append(function)
    return function


def others_live(do: Callable[[], None]) -> None:
    """A worker of the same host, one of a host without limits and the unit have no harm from what is done."""
    before = (show("MainPID"), show("NRestarts"), supervisor())
    with worker("free") as free, worker("memory") as same:
        do()
        assert free.do("who") == [free.os_pid, free.pid]
        assert same.do("who") == [same.os_pid, same.pid]
    assert (show("MainPID"), show("NRestarts"), supervisor()) == before
    assert show("ActiveState") == "active"


def gone(group: Path) -> None:
    wait_until(lambda: not group.exists(), f"{group.name} to go")


@check
def a_unit_of_ours_starts_and_its_group_is_divided() -> None:
    configure(APPLICATION)
    run(WSRELAY, "install-unit", str(APPLICATION))
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "wsrelay.socket", UNIT)
    assert show("Delegate") == "yes"
    group = unit_group()
    told = wait_until(
        lambda: [entry["MESSAGE"] for entry in journal("--unit", UNIT) if "by cgroups in" in str(entry["MESSAGE"])],
        "the log to say how limits are kept",
    )
    assert told == [f"limits of workers are kept by cgroups in {group}: cpu, memory, pids"], told
    assert members(group) == []
    assert {"memory", "pids", "cpu"} <= set(read(group, "cgroup.subtree_control").split())
    main = members(group / "main")
    assert {int(show("MainPID")), supervisor()} <= set(main)
    assert workers_groups() == []
    with worker("free") as free:
        assert free.group == group / "main"
        assert workers_groups() == []
    assert exposure() <= MOST_EXPOSED


@check
def a_worker_has_a_group_with_what_its_host_says() -> None:
    with worker("memory") as one, worker("processes") as two, worker("cpus") as three:
        assert len({one.group, two.group, three.group}) == 3
        assert {each.group.parent for each in (one, two, three)} == {unit_group()}
        assert (read(one.group, "memory.max"), read(one.group, "memory.oom.group")) == (f"{MEMORY << 20}", "1")
        assert (read(one.group, "pids.max"), read(one.group, "cpu.max")) == ("max", "max 100000")
        assert read(two.group, "pids.max") == f"{PROCESSES}"
        assert read(three.group, "cpu.max") == f"{CPUS * 100_000:.0f} 100000"
        assert [members(each.group) for each in (one, two, three)] == [[one.os_pid], [two.os_pid], [three.os_pid]]
    for each in (one, two, three):
        gone(each.group)


@check
def a_worker_that_eats_memory_in_any_way_ends_alone() -> None:
    def eat() -> None:
        for way in ("eat", "eat_in_children", "eat_memfd", "eat_shm"):
            with worker("memory") as one:
                one.line.send(way)
                assert close_code(one.line) == 1011, way
                assert reason_of(one.pid) == "limit:oom", way
            gone(one.group)

    others_live(eat)


@check
def a_worker_that_forks_without_end_ends_alone() -> None:
    def fork() -> None:
        for way in ("fork", "start_threads", "fork_once_too_often"):
            with worker("processes") as one:
                one.line.send(way)
                assert close_code(one.line) == 1011, way
                assert reason_of(one.pid) == "limit:processes", (way, reason_of(one.pid))
            gone(one.group)

    others_live(fork)


@check
def no_more_processes_than_the_limit_ever_are() -> None:
    with worker("processes") as one:
        os.kill(supervisor(), signal.SIGSTOP)  # so that nothing ends what is looked at
        try:
            one.line.send("fork")
            wait_until(lambda: count(one.group, "pids.events", "max"), "a fork to be refused")
            assert int(read(one.group, "pids.current")) == PROCESSES
            if (one.group / "pids.peak").exists():
                assert int(read(one.group, "pids.peak")) == PROCESSES
        finally:
            os.kill(supervisor(), signal.SIGCONT)
        assert close_code(one.line) == 1011
        assert reason_of(one.pid) == "limit:processes"
    gone(one.group)


@check
def a_fork_that_the_units_limit_refuses_is_not_held_against_a_worker() -> None:
    limit = unit_group() / "pids.max"
    before = limit.read_text()
    with worker("processes") as one:
        limit.write_text(f"{int(read(unit_group(), 'pids.current')) + 1}")
        try:
            refused = one.do(f"fork_some {PROCESSES // 2}")
        finally:
            limit.write_text(before)
        print(
            f"# {refused} of {PROCESSES // 2} forks were refused; pids.events: {read(one.group, 'pids.events')}",
            flush=True,
        )
        assert refused
        one.line.send("crash")
        assert close_code(one.line) == 1011
        assert reason_of(one.pid) == "exception"


@check
def a_worker_that_burns_is_slowed_down_and_lives() -> None:
    with worker("cpus") as one:
        assert one.do("burn_in_thread") is None
        wait_until(lambda: count(one.group, "cpu.stat", "nr_throttled") >= 20, "it to be slowed down")
        before = count(one.group, "cpu.stat", "usage_usec")
        periods = count(one.group, "cpu.stat", "nr_periods")
        wait_until(lambda: count(one.group, "cpu.stat", "nr_periods") >= periods + 50, "time to pass")
        used = count(one.group, "cpu.stat", "usage_usec") - before
        passed = count(one.group, "cpu.stat", "nr_periods") - periods
        share = used / (passed * 100_000)
        print(f"# limits.cpus {CPUS}: it had {share:.3f} of a processor over {passed} periods", flush=True)
        # It may go over in one period, and has less in the next.
        assert used <= (passed + 3) * CPUS * 100_000, share
        assert one.do("who") == [one.os_pid, one.pid]


@check
def a_limit_of_cpu_seconds_is_kept_beside_a_group() -> None:
    with worker("seconds") as one:
        one.line.send("burn")
        assert close_code(one.line) == 1011
        assert reason_of(one.pid) == "limit:cpu"
    gone(one.group)


@check
def descendants_cannot_leave() -> None:
    for way in ("end", "crash"):
        with worker("memory") as one:
            one.do("scatter")
            left = wait_until(lambda: len(found := members(one.group)) == 7 and found, "all descendants")
            if way == "end":
                one.line.send("end")
            else:
                os.kill(one.os_pid, signal.SIGSEGV)
            close_code(one.line)
            if way == "crash":  # the other end is a good one, and no news
                assert reason_of(one.pid) == "signal:SIGSEGV"
        gone(one.group)
        assert not [each for each in left if Path(f"/proc/{each}").exists()]


@check
def an_upgraded_worker_keeps_its_group() -> None:
    with worker("memory") as one:
        first = one.do("upgrade")
        second = one.do("upgrade")
        assert len({one.os_pid, first, second}) == 3
        assert one.do("who") == [second, one.pid]
        assert group_of(second) == one.group
        assert members(one.group) == [second]
        assert read(one.group, "memory.max") == f"{MEMORY << 20}"
        one.line.send("eat")
        assert close_code(one.line) == 1011
        assert reason_of(one.pid) == "limit:oom"
    gone(one.group)


@check
def a_reload_is_for_workers_that_start_after_it() -> None:
    main = show("MainPID")
    with worker("memory") as before, worker("free") as free:
        configure(
            APPLICATION,
            hosts={**HOSTS, "memory": "limits: {memory: 64MiB, cpus: 0.5}", "free": "limits: {processes: 9}"},
        )
        run("systemctl", "reload", UNIT)
        with worker("memory") as after, worker("free") as bound:
            assert read(before.group, "memory.max") == f"{MEMORY << 20}"
            assert (read(after.group, "memory.max"), read(after.group, "cpu.max")) == (f"{64 << 20}", "50000 100000")
            assert free.do("who") == [free.os_pid, free.pid]
            assert free.group == unit_group() / "main"
            assert read(bound.group, "pids.max") == "9"
            assert before.do("who") == [before.os_pid, before.pid]
        configure(APPLICATION)
        run("systemctl", "reload", UNIT)
    with worker("memory") as again:
        assert read(again.group, "memory.max") == f"{MEMORY << 20}"
    assert show("MainPID") == main


@check
def a_restart_divides_the_group_again() -> None:
    with worker("memory") as old:
        run("systemctl", "restart", UNIT)
        close_code(old.line)
    with worker("memory") as one:
        assert read(one.group, "memory.max") == f"{MEMORY << 20}"
        assert workers_groups() == [one.group.name]


@check
def a_killed_runtime_leaves_nothing_and_comes_back_with_its_groups() -> None:
    ways: tuple[Callable[[], int], ...] = (supervisor, lambda: int(show("MainPID")))
    for who in ways:
        run("systemctl", "reset-failed", UNIT)
        before = int(show("NRestarts"))
        with worker("memory") as one, worker("processes") as two:
            one.do("scatter")
            old = processes()
            os.kill(who(), signal.SIGKILL)
            wait_until(lambda: int(show("NRestarts")) > before, "the restart")  # noqa: B023
            wait_active()
        assert not [each for each in old if Path(f"/proc/{each}").exists()]
        assert workers_groups() == []
        with worker("memory") as again:
            assert read(again.group, "memory.max") == f"{MEMORY << 20}"
            assert two.os_pid not in members(again.group)


@check
def workers_of_another_user_have_groups_too() -> None:
    folder, unit, port = Path("/srv/other"), "other.service", 8090
    configure(
        folder,
        port,
        {"free": "", "memory": f"user: nobody, private_tmp: true, limits: {{memory: {MEMORY}MiB, processes: 64}}"},
    )
    run(WSRELAY, "install-unit", str(folder), "--name", "other")
    run("systemctl", "daemon-reload")
    run("systemctl", "start", unit)
    assert exposure(unit) <= MOST_EXPOSED
    with worker("memory", port) as other, worker("memory", port) as one:
        assert read(one.group, "memory.max") == f"{MEMORY << 20}"
        one.do("scatter")
        one.line.send("eat")
        assert close_code(one.line) == 1011
        assert reason_of(one.pid, unit) == "limit:oom"
        gone(one.group)
        assert other.do("who") == [other.os_pid, other.pid]
    group = unit_group(unit)
    run("systemctl", "stop", "other.socket", unit)
    assert not group.exists()


@check
def a_sandbox_holds_where_the_kernel_has_landlock() -> None:
    abi = landlock_abi()
    print(f"# Landlock has ABI {abi}", flush=True)
    folder, unit, port = Path("/srv/boxed"), "boxed.service", 8091
    allowed, secret = Path("/srv/allowed"), Path("/srv/secret")
    for each in (allowed, secret):
        each.write_text("x")
    signals = ", signals: false" if abi >= SIGNALS_ABI else ""
    configure(
        folder,
        port,
        {"free": "", "memory": f"sandbox: {{read: [{allowed}]{signals}}}, limits: {{memory: {MEMORY}MiB}}"},
    )
    run(WSRELAY, "install-unit", str(folder), "--name", "boxed")
    run("systemctl", "daemon-reload")
    started = subprocess.run(["systemctl", "start", unit], check=False, capture_output=True)
    if abi < SANDBOX_ABI:
        assert started.returncode != 0
        wait_until(
            lambda: any("needs Landlock" in str(each["MESSAGE"]) for each in journal("--unit", unit)), "the reason"
        )
    else:
        assert started.returncode == 0, started.stderr
        with worker("memory", port) as one, worker("free", port) as free:
            assert one.do(f"read_file {allowed}") == "x"
            assert one.do(f"read_file {secret}") == "refused"
            assert free.do(f"read_file {secret}") == "x"
            assert one.do("write_file /tmp/file") == "refused"
            assert free.do("write_file /tmp/file") is None
            if signals:
                assert one.do(f"send_signal {free.os_pid}") == "refused"
                assert free.do(f"send_signal {one.os_pid}") is None
            assert read(one.group, "memory.max") == f"{MEMORY << 20}"
    run("systemctl", "stop", "boxed.socket", unit)


@check
def without_delegation_what_cannot_be_had_is_an_error_and_the_rest_is_looked_at() -> None:
    with settings("[Service]\nDelegate=no\nRestart=no\n"):
        run("systemctl", "stop", UNIT)
        refused = subprocess.run(["systemctl", "start", UNIT], check=False, capture_output=True)
        assert refused.returncode != 0
        wait_until(
            lambda: any(
                "limits.cpus: needs the cpu controller" in str(each["MESSAGE"]) for each in journal("--unit", UNIT)
            ),
            "the reason",
        )
        print(
            f"# {[each['MESSAGE'] for each in journal('--unit', UNIT) if 'limits.cpus' in str(each['MESSAGE'])][-1]}",
            flush=True,
        )
        configure(APPLICATION, hosts={name: it for name, it in HOSTS.items() if name != "cpus"})
        run("systemctl", "reset-failed")
        run("systemctl", "start", "wsrelay.socket", UNIT)
        assert not (unit_group() / "main").exists()
        for host, way, reason in (("memory", "eat", "limit:oom"), ("processes", "fork", "limit:processes")):
            with worker(host) as one:
                assert one.group == unit_group()
                one.line.send(way)
                assert close_code(one.line) == 1011
                assert reason_of(one.pid) == reason
        run("systemctl", "stop", UNIT)
    configure(APPLICATION)
    run("systemctl", "start", UNIT)


@check
def a_stop_leaves_no_group() -> None:
    group = unit_group()
    with worker("memory") as one:
        one.do("scatter")
        run("systemctl", "stop", "wsrelay.socket", UNIT)
        assert close_code(one.line) == 1001
    assert show("Result") == "success"
    assert not group.exists()
