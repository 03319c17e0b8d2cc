"""An aborted handshake leaves no process behind, however its handler fails; and takes nothing that is meant for others (S44)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import urlopen

import pytest
from support.puppet import PUPPET_SOURCES, Puppet
from support.runtime import GATEWAY, PROCESSES, Runtime, actor, application, endpoint, running_runtime
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

APP = """
    import os, signal
    from wsrelay.workers import http, process

    HOST = "app:processes"

    def open_failing():
        '''Spawns a target, tells the watcher of both, and fails as the query says.'''
        query = http.request().query
        name, watcher, how = query("name"), query("watcher"), query("how")
        target = process.spawn("app:target", HOST, name=name)
        if query("group"):
            process.groups.join(query("group"), target)
        process.send(watcher, "spawned", {"invocation": process.pid(), "target": target})
        if query("waits"):
            process.inbox().receive()
        fail(http.response(), target, how)

    def fail(response, target, how):
        match how:
            case "raises before relay_to":
                response.relay_to(target, metadata={"room": int("none")})
            case "raises after relay_to":
                response.relay_to(target)
                raise ValueError("a query that is wrong")
            case "raises after the header":
                response.set_header("X-WS-Relay", '{"target_pid": "%s", "heartbeat_interval": "often"}' % target)
                raise ValueError("a query that is wrong")
            case "a bad heartbeat":
                response.relay_to(target, heartbeat_interval="often")
            case "metadata over the limit":
                response.relay_to(target, metadata={"user": "x" * 100_000})
            case "a header over the limit":
                response.set_header("X-WS-Relay", '{"target_pid": "%s", "metadata": "%s"}' % (target, "x" * 100_000))
            case "exits before relay_to":
                os._exit(3)
            case "exits":
                response.relay_to(target)
                os._exit(3)
            case "is killed":
                response.relay_to(target)
                os.kill(os.getpid(), signal.SIGKILL)
            case "takes too long":
                response.relay_to(target)
                while True:
                    signal.pause()
            case "takes too long before relay_to":
                while True:
                    signal.pause()

    def target():
        for message in process.inbox():
            if message.topic == "ping":
                process.send(message.sender, "pong", None)
"""
RAISES = (
    "raises after relay_to",
    "raises after the header",
    "a bad heartbeat",
    "metadata over the limit",
    "a header over the limit",
)
"""Ends of a handler that has named its target, and can say so."""
WITHOUT_A_WORD = {
    "raises before relay_to": 500,
    "exits before relay_to": 502,
    "exits": 502,
    "is killed": 502,
}
"""Ends of one that has not, or cannot; and what the client gets."""


@contextlib.contextmanager
def running(tmp_path: Path, **timeouts: str) -> Iterator[Runtime]:
    service = {**GATEWAY, "timeouts": timeouts}
    host = {**PROCESSES, "max_processes": 4}
    entries = application(
        endpoint("/puppet", "open_puppet", source="file://puppet.py"),
        endpoint("/failing", "open_failing"),
        actor("puppet", source="file://puppet.py"),
        actor("target"),
    )
    entries = [service if entry == GATEWAY else host if entry == PROCESSES else entry for entry in entries]
    with running_runtime(tmp_path, entries, {**PUPPET_SOURCES, "app.py": APP}) as started:
        yield started


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with running(tmp_path) as started:
        yield started


def path(puppet: Puppet, how: str, **options: str) -> str:
    return "/failing?" + urlencode({"how": how, "watcher": puppet.pid, **options})


def refused(url: str) -> int:
    with pytest.raises(InvalidStatus) as caught, connect(url):
        pass
    return caught.value.response.status_code


def spawned(puppet: Puppet) -> str:
    """The target, when the invocation that spawned it is dead: what follows for it has been decided."""
    [told] = puppet.do("take(1)")
    wait_for_end(puppet, told["invocation"])
    return str(told["target"])


def wait_for_end(puppet: Puppet, pid: str) -> str:
    """Wait until it is dead; return the kind of its reason, `noproc` if it was dead already."""
    puppet.do("process.monitor(pid)", pid=pid)
    event = puppet.event()
    assert event["sender"] == pid
    return str(event["kind"])


def check_ended(puppet: Puppet, target: str) -> None:
    assert wait_for_end(puppet, target) in ("killed", "noproc")


def check_alive(puppet: Puppet, target: str) -> None:
    """It answers; then it is ended, to leave room for the next."""
    puppet.do("process.send(target, 'ping', None)", target=target)
    assert puppet.do("take(1)") == [None]
    puppet.do("process.terminate(target)", target=target)
    check_ended(puppet, target)


def test_a_target_that_was_named_ends_with_a_handler_that_raises(runtime: Runtime) -> None:
    # Also if it has a registered name: the handler has said whom it is for.
    with Puppet(runtime) as puppet:
        for how in RAISES:
            for options in ({}, {"name": "room"}):
                assert refused(runtime.ws_url(path(puppet, how, **options))) == 500, how
                check_ended(puppet, spawned(puppet))


def test_what_was_spawned_for_a_handshake_ends_with_a_handler_that_says_nothing(runtime: Runtime) -> None:  # S58
    with Puppet(runtime) as puppet:
        for how, status in WITHOUT_A_WORD.items():
            assert refused(runtime.ws_url(path(puppet, how))) == status, how
            check_ended(puppet, spawned(puppet))


def test_so_does_what_was_spawned_for_one_that_takes_too_long(tmp_path: Path) -> None:  # S58
    with running(tmp_path, request="2s") as runtime, Puppet(runtime) as puppet:
        for how in ("takes too long", "takes too long before relay_to"):
            assert refused(runtime.ws_url(path(puppet, how))) == 504
            check_ended(puppet, spawned(puppet))


def test_what_is_meant_for_others_stays(runtime: Runtime) -> None:
    with Puppet(runtime) as puppet:
        for how in ("raises before relay_to", "exits"):
            for options in ({"name": "room"}, {"group": "rooms"}):
                assert refused(runtime.ws_url(path(puppet, how, **options))) == WITHOUT_A_WORD[how]
                check_alive(puppet, spawned(puppet))


def test_a_target_that_another_client_has_joined_stays(runtime: Runtime) -> None:
    for how in ("a bad heartbeat", "exits"):
        with Puppet(runtime) as puppet, ThreadPoolExecutor(1) as pool:
            failing = pool.submit(refused, runtime.ws_url(path(puppet, how, waits="yes")))
            [told] = puppet.do("take(1)")
            with connect(runtime.ws_url("/puppet?to=" + quote(told["target"]))):
                puppet.do("process.send(told['invocation'], 'go', None)", told=told)
                assert failing.result() == (500 if how == "a bad heartbeat" else 502)
                wait_for_end(puppet, told["invocation"])
                check_alive(puppet, told["target"])


def test_what_a_plain_request_spawns_stays(runtime: Runtime) -> None:
    with Puppet(runtime) as puppet:
        for how in ("raises before relay_to", "exits"):
            with pytest.raises(HTTPError) as caught:
                urlopen(runtime.url(path(puppet, how)), timeout=15)
            with caught.value as answer:
                assert answer.code == WITHOUT_A_WORD[how]
            check_alive(puppet, spawned(puppet))


def test_a_handshake_that_fails_again_and_again_fills_no_host(runtime: Runtime) -> None:
    with Puppet(runtime) as puppet:
        for _ in range(8):
            assert refused(runtime.ws_url(path(puppet, "a bad heartbeat"))) == 500
            check_ended(puppet, spawned(puppet))
        with Puppet(runtime) as another:
            assert another.do("1 + 1") == 2
