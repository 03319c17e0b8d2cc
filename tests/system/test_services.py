"""Supervised services, with real processes (S36 to S39, S49)."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.clients import close_of
from support.puppet import PUPPET_ENTRIES, PUPPET_SOURCES, Puppet, PuppetError
from support.runtime import Runtime, actor, endpoint, running_runtime
from support.waiting import wait_until
from websockets.sync.client import connect

SOURCE = """
    import os, signal
    from wsrelay.workers import http, process

    def worker(name):
        "Says who has its name, then does what it is told."
        process.groups.broadcast("observers", "born", [process.pid(), process.registry.lookup(name)])
        for message in process.inbox():
            match message.payload:
                case "answer":
                    process.send(message.sender, "here")
                case "return":
                    return
                case "raise":
                    raise ValueError("told to raise")
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)

    def crasher():
        raise ValueError("at once")

    def polite(patience, path):
        "Ends when it is asked to, after a while, and leaves a note."
        process.events().receive()
        try:
            process.inbox().receive(timeout=patience)
        except process.Timeout:
            with open(path, "w") as file:
                file.write("saved")

    def deaf():
        for _ in process.inbox():
            pass

    def leaves():
        "Ends when its last client goes."
        for message in process.inbox():
            if message.topic == "ws.leave":
                return

    def echo():
        for message in process.inbox():
            if message.topic == "ws.message":
                match message.payload["data"]:
                    case "raise":
                        raise ValueError("told to raise")
                    case "return":
                        return
                process.send(message.sender, "ws.send", {"data": message.payload["data"]})

    def open_echo():
        http.response().relay_to("echo")

    def open_leaves():
        http.response().relay_to("leaves")
"""
SOURCES = {**PUPPET_SOURCES, "services.py": SOURCE}
ACTORS = [
    actor(name, source="file://services.py") for name in ("worker", "crasher", "polite", "deaf", "leaves", "echo")
]
ENTRIES = [
    *PUPPET_ENTRIES,
    *ACTORS,
    *endpoint("/echo", "open_echo", source="file://services.py"),
    *endpoint("/leaves", "open_leaves", source="file://services.py"),
]
_STATE = re.compile(
    r"service app:(?P<service>\w+)\.service: "
    r"(?P<state>stopped|waiting|starting|running|backing off|retiring|stopping|finished|failed)(?:: (?P<detail>.*))?$",
    re.MULTILINE,
)


class Change(NamedTuple):
    """What the log says of a service."""

    service: str
    state: str
    detail: str


def service(
    name: str, process: str, *args: Any, register: bool = False, lifecycle: Mapping[str, Any] = {}, **restart: Any
) -> dict[str, Any]:
    """The entry of a service that restarts quickly."""
    policy = {"initial_delay": "10ms", "jitter": 0, **restart}
    entry = {
        "name": f"{name}.service",
        "kind": "process.service",
        "process": process,
        "host": "processes",
        "args": list(args),
    }
    return {
        **entry,
        **({"register": name} if register else {}),
        "lifecycle": {"stop_timeout": "100ms", **lifecycle, "restart": policy},
    }


def changes(runtime: Runtime, name: str | None = None) -> list[Change]:
    """Every change of one service, or of all, so far."""
    found = [
        Change(match["service"], match["state"], match["detail"] or "") for match in _STATE.finditer(runtime.log())
    ]
    return [change for change in found if name in (None, change.service)]


def states(runtime: Runtime, name: str) -> list[str]:
    """The states that a service has been in."""
    return [change.state for change in changes(runtime, name)]


def wait_for(runtime: Runtime, name: str, *expected: str) -> None:
    """Wait until a service has been in these states, and in no other."""
    wait_until(
        lambda: len(states(runtime, name)) >= len(expected),
        message=lambda: f"{name} to be {expected[-1]}:\n{runtime.log()}",
    )
    assert states(runtime, name) == list(expected)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Runtime]:
    services = [
        service(type, "worker", type, register=True, type=type) for type in ("permanent", "transient", "temporary")
    ]
    with running_runtime(tmp_path, [*ENTRIES, *services], SOURCES) as running:
        yield running


def test_restarts_by_type(workers: Runtime) -> None:
    start, again = ["waiting", "starting", "running"], ["backing off", "starting", "running"]
    names = ("permanent", "transient", "temporary")
    for name in names:
        wait_for(workers, name, *start)
    with Puppet(workers) as observer:
        for name in names:  # one that has been started may not have said yet who it is
            observer.do("process.send(name, 'do', 'answer')", name=name)
        observer.do("take(3)")
        observer.do("process.groups.join('observers')")

        def end(name: str, how: str) -> str:
            """Have a service end; its PID was the one that is returned."""
            pid: str = observer.do("process.registry.lookup(name)", name=name)
            observer.do("process.monitor(pid)", pid=pid)
            observer.do("process.send(name, 'do', how)", how=how)
            assert observer.event()["sender"] == pid
            # S15: the dead has its name no more when its EXIT is seen
            assert observer.do("process.registry.lookup(name)") != pid
            return pid

        def reborn(old: str) -> None:
            """S36: a new PID, which has the name before it runs."""
            pid, holder = observer.do("take(1)")[0]
            assert pid == holder != old

        for how in ("return", "raise", "kill"):
            reborn(end("permanent", how))
        reborn(end("transient", "raise"))
        reborn(end("transient", "kill"))
        end("transient", "return")
        end("temporary", "kill")
        wait_for(workers, "permanent", *start, *again, *again, *again)
        wait_for(workers, "transient", *start, *again, *again, "finished")
        wait_for(workers, "temporary", *start, "failed")
        # What ended for good keeps its name for itself: nobody takes it.
        for attempt in ("process.registry.register('transient')", "process.spawn('app:idle', HOST, name='temporary')"):
            with pytest.raises(PuppetError) as taken:
                observer.do(attempt)
            assert (taken.value.kind, taken.value.pid) == ("AlreadyExists", None)
        assert observer.do("mail") == []


def test_backoff_and_giving_up(tmp_path: Path) -> None:
    # S37, S38
    crasher = service(
        "crasher", "crasher", type="permanent", initial_delay="20ms", max_delay="50ms", backoff_factor=2.0, intensity=3
    )
    waits = service("waits", "deaf", lifecycle={"requires": ["crasher.service"]})
    with running_runtime(tmp_path, [*ENTRIES, crasher, waits], SOURCES) as runtime:
        once = ["starting", "running"]
        wait_for(runtime, "crasher", "waiting", *once, *(["backing off", *once] * 3), "failed")
        details = [change.detail for change in changes(runtime, "crasher")]
        delays = [detail.rpartition("; ")[2] for detail in details if "; again in " in detail]
        assert delays == ["again in 0.02 s", "again in 0.04 s", "again in 0.05 s"]
        assert details[-1].endswith("given up: more than 3 restarts within 60 s")
        assert re.search(
            r"ERROR +service app:crasher.service: failed: exception: ValueError: at once; given up", runtime.log()
        )
        with Puppet(runtime):  # the runtime lives on (S42)
            pass
    assert states(runtime, "crasher")[-1] == "failed"
    assert states(runtime, "crasher").count("starting") == 4


def test_started_in_order_and_stopped_in_reverse(tmp_path: Path) -> None:
    # S39: and a service may take longer than other actors, by its stop_timeout
    note = tmp_path / "note"
    services = [
        service(
            "top", "polite", 0, str(tmp_path / "top"), lifecycle={"requires": ["middle.service"], "stop_timeout": "20s"}
        ),
        service("middle", "polite", 1.0, str(note), lifecycle={"requires": ["base.service"], "stop_timeout": "20s"}),
        service("base", "deaf", lifecycle={"auto_start": False}),
        service("aside", "deaf", lifecycle={"auto_start": False}),
    ]
    with running_runtime(tmp_path, [*ENTRIES, *services], SOURCES) as runtime:
        wait_for(runtime, "top", "waiting", "starting", "running")
        started = [change.service for change in changes(runtime) if change.state == "running"]
        assert started == ["base", "middle", "top"]
        assert runtime.stop() == 0
    assert note.read_text() == "saved"
    stopped = [(name, state) for name, state, _ in changes(runtime) if state in ("stopping", "stopped")]
    assert stopped == [(name, state) for name in ("top", "middle", "base") for state in ("stopping", "stopped")]
    details = {change.service: change.detail for change in changes(runtime) if change.state == "stopped"}
    assert details["middle"] == "cancelled"
    assert details["base"] == "killed: its grace after CANCEL ran out"
    assert "aside" not in details


def test_nothing_restarts_after_stop(tmp_path: Path) -> None:
    # S39: neither what backs off, nor what ends because its clients are sent away
    services = [
        service("slow", "crasher", type="permanent", initial_delay="60s"),
        service("leaves", "leaves", register=True, type="permanent"),
        service("deaf", "deaf", type="permanent"),
    ]
    with running_runtime(tmp_path, [*ENTRIES, *services], SOURCES) as runtime:
        wait_for(runtime, "slow", "waiting", "starting", "running", "backing off")
        for name in ("leaves", "deaf"):
            wait_for(runtime, name, "waiting", "starting", "running")
        with connect(runtime.ws_url("/leaves")) as client:
            runtime.process.send_signal(signal.SIGTERM)
            assert close_of(client)[0] == 1001
        assert runtime.stop() == 0
    start = ["waiting", "starting", "running"]
    assert states(runtime, "slow") == [*start, "backing off", "stopped"]
    assert states(runtime, "leaves") in ([*start, "finished"], [*start, "retiring", "stopping", "stopped"])
    assert states(runtime, "deaf") == [*start, "retiring", "stopping", "stopped"]


def test_what_the_clients_of_a_service_are_told(tmp_path: Path) -> None:
    # S49: 1012 while it will come back, however it ended; 1011 when it is given up
    echo = service("echo", "echo", register=True, type="permanent", intensity=2)
    with running_runtime(tmp_path, [*ENTRIES, echo], SOURCES) as runtime:
        start = ["waiting", "starting", "running"]
        seen = start
        for order, code in (("raise", 1012), ("return", 1012), ("raise", 1011)):
            wait_for(runtime, "echo", *seen)
            with connect(runtime.ws_url("/echo")) as client:
                client.send("hello")
                assert client.recv(timeout=10) == "hello"
                client.send(order)
                assert close_of(client)[0] == code
            seen = [*seen, "backing off", "starting", "running"]
        wait_for(runtime, "echo", *seen[:-3], "failed")
        # Its name leads nowhere now (S44).
        with pytest.raises(Exception, match="503"), connect(runtime.ws_url("/echo")):
            pass
