"""A connection's end and what it had sent before come on two channels: the end is seen last, by whomever, whenever he asks (S14)."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.puppet import PUPPET_ENTRIES, PUPPET_SOURCES, Puppet
from support.runtime import Runtime, running_runtime
from support.waiting import wait_until

STOP = "os.kill(os.getpid(), signal.SIGSTOP)\n"
TAKE = "events = [process.receive(timeout=10) for _ in range({})]"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    with running_runtime(tmp_path_factory.mktemp("late"), PUPPET_ENTRIES, PUPPET_SOURCES) as running:
        yield running


@contextlib.contextmanager
def standing_still(puppet: Puppet, before: str, after: str) -> Iterator[None]:
    """The actor does what `before` says, stands still in this block, and then does what `after` says."""
    puppet.order(before + STOP + after)
    wait_until(lambda: psutil.Process(puppet.os_pid).status() == psutil.STATUS_STOPPED)
    try:
        yield
    finally:
        os.kill(puppet.os_pid, signal.SIGCONT)
    puppet.answer()


def topics(puppet: Puppet) -> list[str]:
    """What it took: the topics of messages, and the kinds of events."""
    found: list[dict[str, str]] = puppet.do("events")
    return [one.get("topic") or f"{one['event']} {one['kind']}" for one in found]


def test_a_stranger_sees_the_refusal_of_its_transfer_before_the_end(runtime: Runtime) -> None:  # S14, S16, S48
    with Puppet(runtime) as stranger, Puppet(runtime) as watcher, Puppet(runtime) as target:
        for each in (stranger, watcher):
            each.do("process.monitor(other)", other=target.client_pid)
        stranger.do("client = other")
        transfer = "process.send(client, 'ws.control', {'target_pid': process.pid()})\n"
        with standing_still(stranger, transfer, TAKE.format(2)):
            target.connection.close(1000)
            assert watcher.event()["kind"] == "normal"
        assert topics(stranger) == ["ws.control_error", "exit normal"]
