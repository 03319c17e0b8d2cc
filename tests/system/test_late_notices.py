"""A connection's end and what it had sent before come on two channels: the end is seen last, by whomever, whenever he asks (S14)."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import psutil
import pytest
from support.puppet import PUPPET_ENTRIES, PUPPET_SOURCES, Puppet
from support.runtime import Runtime, running_runtime
from support.waiting import wait_until
from websockets.exceptions import ConnectionClosed

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


@pytest.mark.parametrize(
    ("how", "end"),
    [
        ("process.monitor(gone)\n", "exit noproc"),
        ("process.set_options(trap_links=True)\nprocess.link(gone)\n", "link_down noproc"),
    ],
)
def test_who_watches_a_client_that_has_gone_sees_its_leave_first(runtime: Runtime, how: str, end: str) -> None:
    # S14, S20, S24, S45: the end was committed before it is asked for, and the leave is still to be read.
    with Puppet(runtime) as watcher, Puppet(runtime) as first:
        watcher.do("process.monitor(other)", other=first.client_pid)
        first.do(f"process.registry.register('late.{first.os_pid}', process.pid())")
        with Puppet(runtime, to=f"late.{first.os_pid}") as second:
            second.do(f"gone = {first.client_pid!r}")
            with standing_still(second, "", how + TAKE.format(2)):
                first.connection.close(1000)
                assert watcher.event()["kind"] == "normal"
            assert topics(second) == ["ws.leave", end]


def test_who_watches_a_client_of_a_dead_gateway_sees_its_leave_first(runtime: Runtime) -> None:  # S14, S20, S41
    [gateway] = [os_pid for os_pid, command in runtime.processes().items() if "wsrelay.gateway" in command]
    with Puppet(runtime) as observer, Puppet(runtime) as first:
        observer.do(f"process.registry.register('observer.{observer.os_pid}', process.pid())")
        kill = "os.kill(gateway, signal.SIGKILL)\nwhile os.path.exists(f'/proc/{gateway}'):\n    pass\n"
        watch = f"process.monitor(client)\n{TAKE.format(2)}\nprocess.send(observer, 'seen', list(map(show, events)))"
        first.order(kill + watch, gateway=gateway, observer=observer.pid)
        with pytest.raises(ConnectionClosed):
            first.answer()
    with Puppet(runtime, to=f"observer.{observer.os_pid}") as again:
        [[leave, end]] = again.do("[each for each in take(2) if type(each) is list]")
        assert (leave["topic"], leave["payload"]["reason"]) == ("ws.leave", "gateway_lost")
        assert (end["event"], end["kind"]) == ("exit", "noproc")
