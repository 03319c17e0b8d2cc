"""On which processors everybody runs: `cpu_affinity` of hosts and of the gateway. With real processes and the real kernel."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import textwrap
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.limited import LIMITED, entries
from support.puppet import PUPPET_SOURCES, Puppet
from support.runtime import Entries, Runtime, running_runtime, write_application
from support.waiting import wait_until
from wsrelay.kernel.shell.machine import allowed_processors
from wsrelay.kernel.wire.quantities import MAX_PROCESSOR

HERE, THERE = min(allowed_processors()), max(allowed_processors())
"""Where the runtime is started, and where else something may run."""
needs_two = pytest.mark.skipif(HERE == THERE, reason="needs two processors, this machine allows one")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
FUNCTIONS = """
    import os
    from wsrelay.workers import http

    def where():
        http.response().write_json([os.getpid(), sorted(os.sched_getaffinity(0))])
"""
SOURCES = {**PUPPET_SOURCES, "functions.py": FUNCTIONS}


def made(gateway: object = None, **host: Any) -> Entries:
    """The puppets with this affinity of their gateway, and a second host `app:limited` with these fields."""
    every = [dict(entry) for entry in entries(host, {"/where": "where"})]
    for entry in every:
        if entry["kind"] == "http.service" and gateway is not None:
            entry["cpu_affinity"] = gateway
    return every


@contextlib.contextmanager
def started_on(processor: int) -> Iterator[None]:
    """What is started in the block begins on this processor, as with `CPUAffinity=` of a unit."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def running(tmp_path: Path, every: Entries) -> Iterator[Runtime]:
    with contextlib.ExitStack() as stack:
        with started_on(HERE):
            runtime = stack.enter_context(running_runtime(tmp_path, every, SOURCES))
        yield runtime


def places(os_pid: int) -> set[int]:
    """The processors of all threads of a process together."""
    return set().union(*(os.sched_getaffinity(int(thread)) for thread in os.listdir(f"/proc/{os_pid}/task")))


def answered_by(runtime: Runtime) -> tuple[int, list[int]]:
    """The os_pid of the function worker on `app:limited`, and the processors that it sees itself on."""
    with urllib.request.urlopen(runtime.url("/where"), timeout=30) as answer:
        os_pid, processors = json.loads(answer.read())
    return os_pid, processors


def host_of(runtime: Runtime, id: str = LIMITED) -> int:
    """The os_pid of the only fork server of a host."""
    [os_pid] = [each.os_pid for each in runtime.ps() if each.kind == "host" and each.entry == id]
    return os_pid


def others(runtime: Runtime) -> set[int]:
    """Where the guardian and the supervisor are, all threads."""
    return places(runtime.process.pid) | places(runtime.supervisor)


def puppet_runs_on(runtime: Runtime, host: str, processor: int) -> bool:
    """Whether what a host forks now runs there. Raises what a client is told while the host is down."""
    with Puppet(runtime, host) as fresh:
        return places(fresh.os_pid) == {processor} and fresh.do("sorted(os.sched_getaffinity(0))") == [processor]


def spawn_until_it_works(puppet: Puppet, host: str) -> None:
    """Wait until a host forks again."""

    def spawned() -> bool:
        puppet.do("process.spawn_monitored('app:finish', host)", host=host)
        return bool(puppet.event()["kind"] == "normal")

    wait_until(spawned)


def change(runtime: Runtime, every: Entries) -> None:
    """Write another configuration and ask for a reload."""
    write_application(runtime.folder, every, SOURCES)
    os.kill(runtime.supervisor, signal.SIGHUP)


def reload(runtime: Runtime, every: Entries) -> None:
    """Have a reload take this over."""
    done = runtime.log().count("reloaded in")
    change(runtime, every)
    wait_until(lambda: runtime.log().count("reloaded in") > done, message=runtime.log)


@needs_two
def test_everybody_runs_where_it_is_said(tmp_path: Path) -> None:
    with running(tmp_path, made(f"{THERE}", cpu_affinity=THERE)) as runtime, Puppet(runtime) as free:
        assert places(runtime.gateway) == {THERE}
        assert places(host_of(runtime)) == {THERE}
        assert puppet_runs_on(runtime, LIMITED, THERE)
        function_worker, processors = answered_by(runtime)
        assert processors == [THERE]
        assert places(function_worker) == {THERE}
        assert places(host_of(runtime, "app:processes")) == places(free.os_pid) == {HERE}
        assert others(runtime) == {HERE}
        assert "cpu_affinity" not in runtime.log()


@needs_two
def test_who_states_nothing_runs_where_the_runtime_was_started(tmp_path: Path) -> None:
    with running(tmp_path, made()) as runtime:
        assert places(runtime.gateway) == places(host_of(runtime)) == others(runtime) == {HERE}


@needs_two
def test_more_processors_than_the_runtime_was_started_on(tmp_path: Path) -> None:
    both = f"{HERE}, {THERE}"
    with running(tmp_path, made([HERE, f"{THERE}"], cpu_affinity=both)) as runtime, Puppet(runtime, LIMITED) as one:
        assert places(runtime.gateway) == places(host_of(runtime)) == places(one.os_pid) == {HERE, THERE}
        assert others(runtime) == {HERE}


@needs_two
def test_it_outlives_the_gateway_and_the_host(tmp_path: Path) -> None:  # S41, S41a
    with running(tmp_path, made(THERE, cpu_affinity=THERE)) as runtime:
        gateway = runtime.gateway
        os.kill(gateway, signal.SIGKILL)
        wait_until(lambda: "the gateway serves again" in runtime.log(), message=runtime.log)
        assert runtime.gateway != gateway
        assert places(runtime.gateway) == {THERE}
        with Puppet(runtime) as spawner:
            host = host_of(runtime)
            os.kill(host, signal.SIGKILL)
            spawn_until_it_works(spawner, LIMITED)
        assert host_of(runtime) != host
        assert puppet_runs_on(runtime, LIMITED, THERE)
        assert others(runtime) == {HERE}


@needs_two
def test_upgraded_code_runs_there_too(tmp_path: Path) -> None:  # S35
    with running(tmp_path, made(cpu_affinity=THERE)) as runtime, Puppet(runtime, LIMITED) as one:
        before = one.os_pid
        one.order("process.upgrade('app:puppet', client)")
        now = one.do("os.getpid()")
        assert now != before
        assert places(now) == {THERE}


@needs_two
@needs_root
def test_another_user_and_a_sandbox_make_no_difference(tmp_path: Path) -> None:
    for path in (tmp_path, *tmp_path.parents):
        if path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    with running(tmp_path, made(cpu_affinity=THERE, user="nobody", sandbox={"read": []})) as runtime:
        assert puppet_runs_on(runtime, LIMITED, THERE)


# --- a reload ---------------------------------------------------------------------------------------------------------


@needs_two
def test_a_reload_moves_the_gateway_and_what_is_forked_from_then_on(tmp_path: Path) -> None:
    with running(tmp_path, made(THERE, cpu_affinity=THERE)) as runtime, Puppet(runtime, LIMITED) as old:
        gateway = runtime.gateway
        assert answered_by(runtime)[1] == [THERE]
        reload(runtime, made(HERE, cpu_affinity=HERE))
        assert places(gateway) == {HERE}
        assert places(old.os_pid) == {THERE}
        assert puppet_runs_on(runtime, LIMITED, HERE)
        wait_until(lambda: answered_by(runtime)[1] == [HERE])
        reload(runtime, made([HERE, THERE], cpu_affinity=THERE))
        assert places(gateway) == {HERE, THERE}
        assert puppet_runs_on(runtime, LIMITED, THERE)
        reload(runtime, made())
        assert places(gateway) == {HERE}
        assert puppet_runs_on(runtime, LIMITED, HERE)
        assert runtime.gateway == gateway
        assert old.do("'fine'") == "fine"
        assert others(runtime) == {HERE}


@needs_two
def test_the_next_gateway_is_where_a_reload_has_moved_the_last(tmp_path: Path) -> None:
    with running(tmp_path, made()) as runtime:
        reload(runtime, made(THERE))
        assert places(runtime.gateway) == {THERE}
        os.kill(runtime.gateway, signal.SIGKILL)
        wait_until(lambda: "the gateway serves again" in runtime.log(), message=runtime.log)
        assert places(runtime.gateway) == {THERE}
        reload(runtime, made())
        assert places(runtime.gateway) == {HERE}


@needs_two
def test_a_reload_brings_back_a_gateway_that_somebody_has_moved(tmp_path: Path) -> None:
    with running(tmp_path, made(THERE)) as runtime:
        for thread in os.listdir(f"/proc/{runtime.gateway}/task"):
            os.sched_setaffinity(int(thread), {HERE})
        reload(runtime, made(THERE))
        assert places(runtime.gateway) == {THERE}


# --- what cannot be had -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["a host", "the gateway"])
def test_a_processor_that_is_not_there_keeps_the_runtime_from_starting(tmp_path: Path, who: str) -> None:
    wanted = f"{HERE},{MAX_PROCESSOR}"
    every = made(wanted) if who == "the gateway" else made(cpu_affinity=wanted)
    write_application(tmp_path / "application", every, SOURCES)
    runtime = Runtime(tmp_path / "application")
    try:
        wait_until(lambda: runtime.process.poll() is not None, message=runtime.log)
        assert runtime.process.returncode == 1
        (line,) = [line for line in runtime.log().splitlines() if "cpu_affinity: " in line]
        assert f"cpu_affinity: {MAX_PROCESSOR} cannot be had: of this machine's processors" in line
        assert "_index.yaml:" in line
        assert "Traceback" not in runtime.log()
    finally:
        runtime.kill()


@needs_two
@pytest.mark.parametrize("who", ["a host", "the gateway"])
def test_a_reload_to_a_processor_that_is_not_there_changes_nothing(tmp_path: Path, who: str) -> None:
    with running(tmp_path, made(THERE, cpu_affinity=THERE)) as runtime:
        every = (
            made(MAX_PROCESSOR, cpu_affinity=HERE) if who == "the gateway" else made(HERE, cpu_affinity=MAX_PROCESSOR)
        )
        change(runtime, every)
        wait_until(lambda: "the reload changes nothing: " in runtime.log(), message=runtime.log)
        assert f"cpu_affinity: {MAX_PROCESSOR} cannot be had" in runtime.log()
        assert places(runtime.gateway) == {THERE}
        assert puppet_runs_on(runtime, LIMITED, THERE)


@needs_two
def test_a_module_that_moves_its_host_is_told(tmp_path: Path) -> None:
    sources = {
        **SOURCES,
        "functions.py": f"import os\nos.sched_setaffinity(0, {{{HERE}}})\n{textwrap.dedent(FUNCTIONS)}",
    }
    with started_on(HERE), running_runtime(tmp_path, made(cpu_affinity=THERE), sources) as runtime:
        told = f"{LIMITED}: runs on the processors {HERE}, and not on {THERE} as its cpu_affinity says"
        wait_until(lambda: told in runtime.log(), message=runtime.log)
