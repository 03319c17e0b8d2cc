"""A fork server that hangs (S41a)."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

from support.fork_server import host_of
from support.puppet import PUPPET_ENTRIES, PUPPET_SOURCES, Puppet
from support.runtime import actor, running_runtime
from support.waiting import wait_until


def spawn_until_it_works(puppet: Puppet) -> None:
    def spawned() -> bool:
        puppet.do("process.spawn_monitored('app:finish', HOST)")
        return bool(puppet.event()["kind"] == "normal")

    wait_until(spawned)


def test_a_host_that_hangs_is_restarted(tmp_path: Path) -> None:
    # S17, S41a: its workers live on, and what it was to fork has failed
    environment = {"WSRELAY_HOST_HANG_LIMIT": "1"}
    with (
        running_runtime(tmp_path, PUPPET_ENTRIES, PUPPET_SOURCES, environment=environment) as runtime,
        Puppet(runtime) as one,
    ):
        host = host_of(runtime)
        os.kill(host, signal.SIGSTOP)
        started = time.monotonic()
        one.do("process.spawn_monitored('app:finish', HOST)")
        event = one.event()
        assert (event["kind"], "host_lost" in event["text"]) == ("noconnection", True)
        assert time.monotonic() - started >= 1.0
        wait_until(lambda: "its fork server ended (signal:SIGKILL" in runtime.log(), message=runtime.log)
        wait_until(
            lambda: "ERROR   app:processes: its fork server has not answered for 1 s: killed" in runtime.log(),
            message=runtime.log,
        )
        spawn_until_it_works(one)
        assert host_of(runtime) != host


def test_a_host_of_which_nothing_is_asked_is_left_alone(tmp_path: Path) -> None:
    # S17: it is asked nothing for the sake of asking; and one that goes on in time has lost nothing
    environment = {"WSRELAY_HOST_HANG_LIMIT": "2"}
    with (
        running_runtime(tmp_path, PUPPET_ENTRIES, PUPPET_SOURCES, environment=environment) as runtime,
        Puppet(runtime) as one,
    ):
        host = host_of(runtime)
        os.kill(host, signal.SIGSTOP)
        until = time.monotonic() + 3.0
        wait_until(lambda: time.monotonic() > until)
        assert host_of(runtime) == host
        one.do("process.spawn_monitored('app:finish', HOST)")
        os.kill(host, signal.SIGCONT)
        assert one.event()["kind"] == "normal"
        assert host_of(runtime) == host


HELD_UP = {
    **PUPPET_SOURCES,
    "slow.py": """
        import fcntl, os

        with open(os.environ["HELD_UP_BY"]) as file:
            fcntl.flock(file, fcntl.LOCK_SH)

        def slow():
            pass
    """,
}
"""Importing it takes as long as the test has the file locked."""


def test_a_host_that_starts_has_more_time(tmp_path: Path) -> None:
    # What it imports takes longer than a fork may; and one that does not get ready is replaced too.
    lock = tmp_path / "lock"
    lock.touch()
    environment = {"WSRELAY_HOST_HANG_LIMIT": "0.3", "HELD_UP_BY": str(lock)}
    entries = [*PUPPET_ENTRIES, actor("slow", source="file://slow.py")]
    with running_runtime(tmp_path, entries, HELD_UP, environment=environment) as runtime, Puppet(runtime) as one:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.kill(host_of(runtime), signal.SIGKILL)
            wait_until(lambda: "its fork server ended" in runtime.log())
            wait_until(lambda: "its fork server has not answered for 9 s: killed" in runtime.log(), 30.0, runtime.log)
            assert "has not answered for 0.3 s" not in runtime.log()
        spawn_until_it_works(one)
