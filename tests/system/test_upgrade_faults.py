"""Faults in the midst of an upgrade (S30, S35, S41): in the old code, between the two, in the new one.

Each stops at a seam: the old code while it hands over, because its stdout stops it; the fork, because the host is stopped; the
new code, which stops itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.fork_server import host_of
from support.puppet import PUPPET_ENTRIES, PUPPET_SOURCES, Puppet, PuppetError
from support.runtime import Runtime, actor, running_runtime
from support.waiting import wait_until

SOURCE = '''
    import os, signal, time
    import puppet
    from puppet import NAMES
    from wsrelay.workers import process

    def stops(*args):
        os.kill(os.getpid(), signal.SIGSTOP)
        puppet.puppet()

    def upgrades():
        process.upgrade("app:stops")

    def burns(generation):
        """Never has used a second of CPU time when it upgrades itself."""
        end = time.process_time() + 0.4
        while time.process_time() < end:
            pass
        process.send("the.watcher", "generation", generation)
        process.upgrade(None, generation + 1)

    def serves(path, generation=0):
        """Its first code upgrades itself; the new one crashes when it is told to, and notes a CANCEL."""
        if generation == 0:
            process.upgrade(None, path, 1)
        while True:
            match process.receive():
                case process.Message(payload="crash"):
                    os.kill(os.getpid(), signal.SIGKILL)
                case process.Cancel():
                    with open(path, "w") as file:
                        file.write("cancelled")
                    return
'''
STOP_IN_HAND_OVER = """
class Stopping:
    def write(self, text):
        return len(text)
    def flush(self):
        os.kill(os.getpid(), signal.SIGSTOP)
sys.stdout = Stopping()
"""
LIMITED = "app:limited"
ENTRIES = [
    *PUPPET_ENTRIES,
    *(actor(name, source="file://faults.py") for name in ("stops", "upgrades", "burns", "serves")),
]
SOURCES = {**PUPPET_SOURCES, "faults.py": SOURCE}


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with running_runtime(tmp_path, ENTRIES, SOURCES) as running:
        yield running


def wait_stopped(os_pid: int) -> None:
    wait_until(lambda: psutil.Process(os_pid).status() == psutil.STATUS_STOPPED, message=f"{os_pid} to be stopped")


@contextlib.contextmanager
def stopped(os_pid: int) -> Iterator[None]:
    os.kill(os_pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(os_pid, signal.SIGCONT)


def stopped_workers(runtime: Runtime) -> list[int]:
    """The os_pids of workers that are stopped."""
    found = []
    for os_pid in runtime.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(os_pid).status() == psutil.STATUS_STOPPED:
                found.append(os_pid)
    return found


def hand_over_stops(runtime: Runtime, one: Puppet, target: str = "app:puppet") -> int:
    """Begin an upgrade whose old code stops while it hands over. Returns its os_pid."""
    one.do(STOP_IN_HAND_OVER)
    one.order(f"process.upgrade({target!r})")
    wait_stopped(one.os_pid)
    return one.os_pid


def new_code_stops(runtime: Runtime, one: Puppet) -> int:
    """Upgrade to code that stops at its start. Returns its os_pid."""
    one.order("process.upgrade('app:stops')")
    [os_pid] = wait_until(lambda: stopped_workers(runtime), message="the new code to stop")
    return os_pid


def test_terminate_works_in_every_state(runtime: Runtime) -> None:
    # S30, S35
    with Puppet(runtime) as watcher:
        for begin in (hand_over_stops, new_code_stops):
            with Puppet(runtime) as one:
                watcher.do("process.monitor(one)", one=one.pid)
                begin(runtime, one)
                watcher.do("process.terminate(one)")
                assert watcher.event()["kind"] == "killed"
                assert one.end() == (1011, "killed")
        with Puppet(runtime) as one:
            watcher.do("process.monitor(one)", one=one.pid)
            with stopped(host_of(runtime)):
                one.order("process.upgrade('app:puppet')")
                wait_until(lambda: not psutil.pid_exists(one.os_pid), message="the old code to be reaped")
                watcher.do("process.terminate(one)")
                assert watcher.event()["kind"] == "killed"
                assert one.end() == (1011, "killed")
        assert watcher.events_now() == []
        assert watcher.do("process.spawn('app:idle', HOST)"), "the host is well"


def test_killed_by_somebody_else_in_every_state(runtime: Runtime) -> None:
    # S12, S35, S41a
    with Puppet(runtime) as watcher:
        for begin in (hand_over_stops, new_code_stops):
            with Puppet(runtime) as one:
                watcher.do("process.monitor(one)", one=one.pid)
                os.kill(begin(runtime, one), signal.SIGKILL)
                assert watcher.event()["text"] == "signal:SIGKILL"
                assert one.end() == (1011, "signal:SIGKILL")
        with Puppet(runtime) as one:
            watcher.do("process.monitor(one)", one=one.pid)
            host = host_of(runtime)
            os.kill(host, signal.SIGSTOP)
            one.order("process.upgrade('app:puppet')")
            wait_until(lambda: not psutil.pid_exists(one.os_pid), message="the old code to be reaped")
            os.kill(host, signal.SIGKILL)
            assert watcher.event()["text"].startswith("noconnection: host_lost")
            assert one.end()[0] == 1011
        assert watcher.events_now() == []


def test_what_comes_meanwhile_waits_and_the_gateway_may_die(runtime: Runtime) -> None:
    # S15, S35, S41: in each state mail comes, and then the gateway dies
    def host_stops(runtime: Runtime, one: Puppet) -> int:
        host = host_of(runtime)
        os.kill(host, signal.SIGSTOP)
        one.order("process.upgrade('app:puppet')")
        wait_until(lambda: not psutil.pid_exists(one.os_pid), message="the old code to be reaped")
        return host

    states: list[Callable[[Runtime, Puppet], int]] = [hand_over_stops, host_stops, new_code_stops]
    for number, begin in enumerate(states):
        name = f"name.{number}"
        with Puppet(runtime) as one, Puppet(runtime) as other:
            one.do("ref = process.monitor(client); process.registry.register(name)", name=name)
            stopped_pid = begin(runtime, one)
            other.do("[process.send(one, 'meanwhile', n) for n in range(100)] and None", one=one.pid)
            assert other.do("process.registry.lookup(name)", name=name) == one.pid
            ready = runtime.log().count("the gateway serves again")
            os.kill(runtime.gateway, signal.SIGKILL)
            wait_until(lambda: runtime.log().count("the gateway serves again") > ready)  # noqa: B023
            os.kill(stopped_pid, signal.SIGCONT)
            with Puppet(runtime, to=name) as again:
                assert again.pid == one.pid
                again.do(
                    "mail = NAMES['mail'] + [process.inbox().receive(timeout=10) for _ in range(101 - len(NAMES['mail']))]"
                )
                assert again.do("[m.payload for m in mail if m.topic == 'meanwhile'] == list(range(100))")
                leaves = again.do("[[m.sender, m.payload['reason']] for m in mail if m.topic == 'ws.leave']")
                assert leaves == [[one.client_pid, "gateway_lost"]]
                event = again.event()
                assert (event["sender"], event["text"]) == (one.client_pid, "noconnection: gateway_lost")
                assert again.events_now() == []
                assert again.do("process.registry.lookup(name)", name=name) == one.pid


def test_limits_are_the_process_s(tmp_path: Path) -> None:
    # S10, S17, S18, S35
    entries = [dict(entry) for entry in ENTRIES]
    for entry in entries:
        if entry["kind"] == "function.python":
            entry["host"] = "processes"
    limits = {"cpu": "1s", "mailbox": "1MiB"}
    entries.append({"name": "limited", "kind": "process.host", "functions": 0, "limits": limits})
    entries.append({"name": "lively", "kind": "process.host", "functions": 0, "limits": {"liveness": "1s"}})
    with (
        running_runtime(tmp_path, entries, SOURCES) as runtime,
        Puppet(runtime) as watcher,
        Puppet(runtime, "app:lively") as one,
        Puppet(runtime, LIMITED) as other,
    ):
        watcher.do("process.registry.register('the.watcher')")
        watcher.do("process.spawn_monitored('app:burns', host, 0)", host=LIMITED)
        watcher.order("process.events().receive(timeout=60)")
        assert watcher.answer(60)["kind"] == "limit:cpu"
        generations = watcher.do("[m.payload for m in NAMES.get('mail', [])]")
        assert 2 <= len(generations) <= 4, "its CPU time is that of all its codes"
        # It gives signs of life after an upgrade too, while it waits, and is asked for them.
        one.order("process.upgrade('app:puppet')")
        wait_until(lambda: not psutil.pid_exists(one.os_pid), message="the old code to be reaped")
        watcher.do("process.monitor(one)", one=one.pid)
        with pytest.raises(PuppetError, match="Timeout"):
            watcher.do("process.events().receive(timeout=2)")
        stops = watcher.do("process.spawn('app:upgrades', host)", host="app:lively")
        watcher.do("process.monitor(stops)", stops=stops)
        assert watcher.event()["kind"] == "limit:liveness"
        # What comes before the new code runs counts as its mail.
        watcher.do("process.monitor(other)", other=other.pid)
        new_code_stops(runtime, other)
        watcher.do("[process.send(other, 'much', b'x' * 100_000) for _ in range(30)] and None")
        assert watcher.event()["kind"] == "limit:mailbox"


def test_code_that_has_changed_on_disk(tmp_path: Path) -> None:
    # S35: the new code is imported by the new process, if the host has not preloaded it
    entries = [{**entry, "preload": False} if entry["kind"] == "process.host" else entry for entry in ENTRIES]
    with running_runtime(tmp_path, entries, SOURCES) as runtime, Puppet(runtime) as one:
        assert one.do("HOST") == "app:processes"
        file = runtime.folder / "puppet.py"
        file.write_text(file.read_text().replace('HOST = "app:processes"', 'HOST = "changed"'))
        one.order("process.upgrade('app:puppet', client)")
        assert one.do("HOST") == "changed"


def test_a_service_is_upgraded(tmp_path: Path) -> None:
    # S35, S36, S39
    note = tmp_path / "note"
    service = {
        "name": "the.service",
        "kind": "process.service",
        "process": "serves",
        "host": "processes",
        "args": [str(note)],
        "register": "the.server",
        "lifecycle": {"restart": {"type": "permanent", "initial_delay": "10ms"}},
    }
    with running_runtime(tmp_path, [*ENTRIES, service], SOURCES) as runtime, Puppet(runtime) as watcher:
        upgraded = "is upgraded to app:serves"
        wait_until(lambda: upgraded in runtime.log())
        first = watcher.do("process.registry.lookup('the.server')")
        watcher.do("process.monitor(server)", server=first)
        assert watcher.events_now() == [], "it is still the same process, and has its name"
        watcher.do("process.send(server, 'order', 'crash')")
        assert watcher.event()["text"] == "signal:SIGKILL"
        second = wait_until(lambda: watcher.do("process.registry.lookup('the.server')"))
        assert second != first
        wait_until(lambda: runtime.log().count(upgraded) == 2, message="the restart to begin with the service's entry")
        assert runtime.stop() == 0
    assert note.read_text() == "cancelled", "the new code of a service is stopped like any"
