"""The relay where it is weakest: targets that hang, strangers that transfer, clients that come and go (S44 to S53)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support.puppet import PUPPET_SOURCES, Puppet
from support.runtime import GATEWAY, Runtime, actor, application, endpoint, running_runtime
from support.waiting import wait_until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

APP = """
    import json, os
    from wsrelay.workers import http, process

    HOST = "app:processes"

    def join():
        '''Names what the query says.'''
        http.response().set_header("X-WS-Relay", http.request().query("fields"))

    def counting(owner):
        process.send(owner, "born", os.getpid())
        counts = {}
        for message in process.inbox():
            counts[message.topic] = counts.get(message.topic, 0) + 1
            if message.topic == "report":
                process.send(owner, "counts", counts)

    def open_bouncing():
        journal = http.request().query("journal")
        one = process.spawn("app:bouncing", HOST, os.path.join(journal, "one"))
        two = process.spawn("app:bouncing", HOST, os.path.join(journal, "two"))
        for pid, other in ((one, two), (two, one)):
            process.send(pid, "other", other)
        http.response().relay_to(one)

    def bouncing(journal):
        '''Passes the connection to the other one after every fifth message.'''
        seen, other = 0, None
        with open(journal, "w") as file:
            for message in process.inbox():
                if message.topic == "other":
                    other = message.payload
                    continue
                client = message.payload["client_pid"]
                file.write(json.dumps([message.topic, message.payload.get("data"), message.payload.get("reason")]) + "\\n")
                file.flush()
                if message.topic == "ws.message":
                    process.send(client, "ws.send", {"data": message.payload["data"]})
                    seen += 1
                    if seen % 5 == 0:
                        process.send(client, "ws.control", {"target_pid": other})
"""
ENTRIES = application(
    endpoint("/puppet", "open_puppet", source="file://puppet.py"),
    endpoint("/join", "join"),
    endpoint("/bouncing", "open_bouncing"),
    *(actor(name, source="file://puppet.py") for name in ("puppet", "finish")),
    actor("bouncing"),
    actor("counting"),
)
CLOSE_TIMEOUT = 0.3
"""Seconds that the gateway waits for a client's Close: there are clients here that never send one."""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    service = {**GATEWAY, "timeouts": {"close": f"{CLOSE_TIMEOUT}s"}, "limits": {"inbound": "64KiB"}}
    entries = [service, *(entry for entry in ENTRIES if entry != GATEWAY)]
    with running_runtime(tmp_path_factory.mktemp("edges"), entries, {**PUPPET_SOURCES, "app.py": APP}) as running:
        yield running


def joining(runtime: Runtime, target: str, **fields: Any) -> str:
    return runtime.ws_url("/join?fields=" + quote(json.dumps({"target_pid": target, **fields})))


def refused(url: str) -> int:
    with pytest.raises(InvalidStatus) as caught, connect(url):
        pass
    return caught.value.response.status_code


@contextlib.contextmanager
def stopped(os_pid: int) -> Iterator[None]:
    """An actor's OS process stands still."""
    os.kill(os_pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(os_pid, signal.SIGCONT)


def cut(client: ClientConnection) -> None:
    """Cut the line without a Close."""
    client.socket.shutdown(2)


def gateway_descriptors(runtime: Runtime) -> int:
    gateway = next(os_pid for os_pid, command in runtime.processes().items() if "wsrelay.gateway" in command)
    return len(os.listdir(f"/proc/{gateway}/fd"))


def test_what_a_relay_header_may_not_name(runtime: Runtime) -> None:  # S44
    with Puppet(runtime) as puppet:
        assert refused(joining(runtime, puppet.client_pid)) == 503
        puppet.do("process.registry.register('a-connection', client)")
        assert refused(joining(runtime, "a-connection")) == 503
        dead = puppet.do("process.spawn_monitored('app:finish', HOST)")[0]
        assert puppet.event()["kind"] == "normal"
        assert refused(joining(runtime, dead)) == 503
        assert puppet.do("1 + 1") == 2


def test_a_stopped_target_outlives_the_clients_that_come_and_go(runtime: Runtime) -> None:  # S10, S17, S53
    with Puppet(runtime) as puppet:
        target, _ = puppet.do("process.spawn_monitored('app:counting', HOST, process.pid())")
        [os_pid] = puppet.do("take(1)")
        url = joining(runtime, target, metadata={"much": "x" * 10_000})
        with stopped(os_pid):
            came = 0
            while joined(url):
                came += 1
                assert came < 300, "its queue has no bound"
            assert puppet.do("1 + 1") == 2
        wait_until(lambda: joined(url), message="the target to be joined again")

        def count(topic: str) -> Any:
            puppet.do("process.send(target, 'report', None)", target=target)
            [counts] = puppet.do("take(1)")
            return counts.get(topic, 0)

        # It is alive and has missed nothing (S45); what the gateway says and what is asked come from two senders, in any order.
        wait_until(lambda: count("ws.leave") == came + 1, message="every leave")
        assert count("ws.join") == came + 1
        assert puppet.events_now() == []


def joined(url: str) -> bool:
    """Join and cut the line; False if the gateway says 503."""
    try:
        with connect(url) as client:
            cut(client)
    except InvalidStatus as problem:
        if problem.response.status_code != 503 or "Retry-After" not in problem.response.headers:
            raise
        return False
    return True


def test_a_connection_ends_though_its_target_stands_still(runtime: Runtime) -> None:  # S30, S49, S52
    with Puppet(runtime) as other:
        for how, kind, code in (
            ("process.terminate(client)", "killed", 1011),
            ("process.cancel(client)", "cancelled", 1001),
            ("process.cancel(client, grace=0)", "cancelled", 1001),
            ("process.terminate(pid)", "ws_closed:1011", 1011),
        ):
            with Puppet(runtime) as target, stopped(target.os_pid):
                other.do("process.monitor(client)", client=target.client_pid)
                other.do(how, client=target.client_pid, pid=target.pid)
                assert target.end()[0] == code
                assert other.event()["kind"] == kind


def test_links_between_connections_and_processes(runtime: Runtime) -> None:  # S25, S51, S52
    with Puppet(runtime) as one, Puppet(runtime) as other, Puppet(runtime) as watcher:
        watcher.do("process.monitor(client)", client=one.client_pid)
        other.do("process.link(client)", client=one.client_pid)
        other.order("os._exit(7)")
        assert one.end() == (1011, "exit:7")
        event = watcher.event()
        assert (event["kind"], event["origin"]) == ("exit:7", other.pid)
    with Puppet(runtime) as one, Puppet(runtime) as other:
        other.do("process.link(client)", client=one.client_pid)
        one.connection.close(4000)
        assert other.end() == (1011, "ws_closed:4000")
    with Puppet(runtime) as one, Puppet(runtime) as other:
        other.do("process.link(client), process.monitor(client)", client=one.client_pid)
        one.connection.close(1000)
        assert other.event()["kind"] == "normal"
        assert other.do("1 + 1") == 2


def test_the_first_close_stands_and_nothing_follows_it(runtime: Runtime) -> None:  # S46, S50
    with Puppet(runtime) as watcher, Puppet(runtime) as puppet:
        watcher.do("process.monitor(client)", client=puppet.client_pid)
        puppet.order(
            "[process.send(client, topic, payload) for topic, payload in orders]",
            orders=[
                ["ws.send", {"data": "before"}],
                ["ws.close", {"code": 4001, "reason": "é" * 100}],
                ["ws.send", {"data": "after"}],
                ["ws.close", {"code": 4002}],
                ["news", "after"],
            ],
        )
        assert puppet.connection.recv(timeout=15) == "before"
        assert puppet.end() == (4001, "é" * 61)
        assert watcher.event()["kind"] == "ws_closed:4001"


def test_a_stream_that_goes_back_and_forth(runtime: Runtime, tmp_path: Path) -> None:  # S45, S47, invariant 13
    with connect(runtime.ws_url(f"/bouncing?journal={tmp_path}")) as client:
        for number in range(500):
            client.send(str(number))
        assert sorted(int(client.recv(timeout=15)) for _ in range(500)) == list(range(500))
    journals = [tmp_path / "one", tmp_path / "two"]

    def is_over() -> bool:
        """Either process writes when it comes to it: the last leave of one may be there before the last but one of the other."""
        if not all(journal.exists() for journal in journals):
            return False
        logged = [journal.read_text() for journal in journals]
        return any("client_closed" in log for log in logged) and not any(
            log.count('"ws.join"') > log.count('"ws.leave"') for log in logged
        )

    wait_until(is_over, message="the last leaves")
    received = []
    for journal in journals:
        inside, count = False, 0
        for topic, data, reason in map(json.loads, journal.read_text().splitlines()):
            if topic == "ws.control_error":  # it had the connection no more when it passed it on
                continue
            assert inside == (topic != "ws.join"), "a message or a leave outside the bracket"
            inside = topic != "ws.leave"
            if topic == "ws.message":
                received.append(int(data))
                count += 1
            elif topic == "ws.leave" and reason == "transferred":
                assert count >= 5, "it left before it could have been passed on"
        assert not inside
    assert sorted(received) == list(range(500))


def test_connections_leave_nothing_in_the_gateway(runtime: Runtime) -> None:  # invariant 15
    runtime.quiesce()
    with Puppet(runtime) as target:
        before = gateway_descriptors(runtime)
        for _ in range(40):
            with connect(joining(runtime, target.pid)) as client:
                client.send('{"code": "1", "names": {}}')
                cut(client)
            with connect(joining(runtime, target.pid)):
                pass
            assert refused(joining(runtime, "nobody")) == 503
        wait_until(lambda: gateway_descriptors(runtime) == before, message="the gateway's descriptors to be closed")


def test_the_log_keeps_secrets(runtime: Runtime) -> None:
    secret = {"Cookie": "session=SECRET", "Authorization": "Bearer SECRET"}
    assert refused(joining(runtime, "nobody", metadata={"token": "SECRET"}) + "&token=SECRET") == 503
    assert refused(joining(runtime, "nobody", metadata="SECRET")) == 500
    with pytest.raises(InvalidStatus), connect(runtime.ws_url("/SECRET?SECRET"), additional_headers=secret):
        pass
    with Puppet(runtime) as puppet:
        puppet.connection.send("SECRET")  # no order: the puppet dies of it
        assert puppet.end() == (1011, "exception")
    assert "malformed X-WS-Relay" in runtime.log()
    assert "SECRET" not in runtime.log()
