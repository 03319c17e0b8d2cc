"""When the gateway dies or hangs (S41)."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from support.clients import line_is_lost
from support.puppet import PUPPET_ENTRIES, PUPPET_SOURCES, Puppet
from support.runtime import Runtime, actor, endpoint, running_runtime
from support.waiting import wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

HANG_LIMIT = 1.0

APP = '''
    """Actors that note all they receive, and handlers that take their time."""

    import json, os
    from wsrelay.workers import http, process

    HOST = "app:processes"

    def note(path, **what):
        with open(path, "a") as file:
            file.write(json.dumps(what, default=str) + "\\n")

    def open_noted():
        """The target notes at `path` what it receives."""
        request = http.request()
        target = process.spawn("app:noted", HOST, request.query("path"))
        http.response().relay_to(target, metadata={"n": request.query("n")})

    def noted(path):
        process.set_options(trap_links=True)
        while True:
            match process.receive():
                case process.Message(topic, payload, sender):
                    if topic == "ws.join":
                        process.monitor(sender)
                        process.link(sender)
                        process.send(sender, "ws.send", {"data": process.pid()})
                    note(path, topic=topic, sender=sender, data=payload.get("data"), reason=payload.get("reason"),
                         code=payload.get("code", "none"), metadata=payload["metadata"])
                case process.Exit(sender, ref, reason):
                    note(path, topic="exit", sender=sender, kind=reason.kind, detail=reason.detail)
                case process.LinkDown(sender, reason):
                    note(path, topic="link_down", sender=sender, kind=reason.kind, detail=reason.detail)

    async def async_noted(path):
        async for message in process.inbox():
            if message.topic == "ws.join":
                await process.monitor(message.sender)
                await process.send(message.sender, "ws.send", {"data": process.pid()})
            note(path, topic=message.topic, sender=message.sender, reason=message.payload.get("reason"))
            if message.topic == "ws.leave":
                event = await process.events().receive(timeout=10)
                note(path, topic="exit", sender=event.sender, kind=event.reason.kind, detail=event.reason.detail)

    def open_async():
        http.response().relay_to(process.spawn("app:async_noted", HOST, http.request().query("path")))

    def slow():
        """Answers when the latch is opened."""
        request = http.request()
        note(request.query("path"), os_pid=os.getpid(), pid=process.pid())
        with open(request.query("latch")) as latch:
            latch.read()
        note(request.query("path"), done=True)
        http.response().write("late")

    def quick():
        http.response().write(str(os.getpid()))
'''
ENTRIES = [
    {**PUPPET_ENTRIES[0], "timeouts": {"close": "1s"}},
    *PUPPET_ENTRIES[1:],
    *endpoint("/noted", "open_noted"),
    *endpoint("/async", "open_async"),
    *endpoint("/slow", "slow"),
    *endpoint("/quick", "quick"),
    actor("noted"),
    actor("async_noted"),
]
SOURCES = {**PUPPET_SOURCES, "app.py": APP}


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with running_runtime(tmp_path, ENTRIES, SOURCES, environment={"WSRELAY_GATEWAY_HANG_LIMIT": "60"}) as running:
        yield running


def journal(path: Path) -> list[dict[str, Any]]:
    """What was noted so far; a line that is being written does not count."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def kill_gateway(runtime: Runtime, *, wait: bool = True) -> None:
    """SIGKILL, and wait until another one serves."""
    served = runtime.log().count("serves again")
    os.kill(runtime.gateway, signal.SIGKILL)
    if wait:
        wait_until(lambda: runtime.log().count("serves again") > served, message=runtime.log)


def owner(pid: str) -> str:
    """Who allocated a PID: `s`, or `g` and the gateway's incarnation; and its serial."""
    return pid.split("|")[1].split(".", 1)[1].rstrip("}")


def get(runtime: Runtime, path: str) -> str:
    with urlopen(runtime.url(path), timeout=15) as response:
        return str(response.read().decode())


def test_workers_survive_the_gateway(runtime: Runtime) -> None:
    # S41, S42, S51: names, monitors, links and OS processes of the workers are as before; the connections are dead
    with Puppet(runtime) as one, Puppet(runtime) as two, Puppet(runtime) as linked:
        one.do("process.registry.register('one')")
        two.do("process.registry.register('two')")
        one.do("ref = process.monitor(two)", two=two.pid)
        one.do("client_ref = process.monitor(client)", client=two.client_pid)
        one.do("process.monitor(linked)", linked=linked.pid)
        linked.do("process.link(client_pid)", client_pid=two.client_pid)
        assert owner(one.client_pid).startswith("g1.")
        workers = {int(get(runtime, "/quick")) for _ in range(8)}
        kill_gateway(runtime)
        assert all(line_is_lost(puppet.connection) for puppet in (one, two, linked))
    with Puppet(runtime, to="one") as again, Puppet(runtime, to="two") as other:
        assert (again.pid, again.os_pid) == (one.pid, one.os_pid)
        assert other.pid == two.pid
        assert {owner(again.client_pid), owner(other.client_pid)} == {"g2.1", "g2.2"}  # serials start anew
        leaves = again.do("[m.payload for m in mail if m.topic == 'ws.leave']")
        assert leaves == [{"client_pid": one.client_pid, "reason": "gateway_lost", "code": None, "metadata": {}}]
        events = {event["sender"]: event for event in (again.event(), again.event())}
        assert events[two.client_pid]["text"] == "noconnection: gateway_lost"
        assert events[two.client_pid]["ref"] == again.do("client_ref")
        # S25: who was linked to the connection and does not trap dies of it
        assert events[linked.pid]["kind"] == "noconnection"
        assert events[linked.pid]["origin"] == two.client_pid
        assert again.events_now() == []
        # A monitor that was made before still fires; a dead connection is dead.
        other.order("os._exit(3)")
        assert again.event()["kind"] == "exit:3"
        again.do("process.monitor(dead)", dead=one.client_pid)
        assert again.event()["kind"] == "noproc"
        assert {int(get(runtime, "/quick")) for _ in range(8)} <= workers


@pytest.mark.parametrize("path", ["/noted", "/async"])
def test_every_join_is_closed_by_its_leave_before_any_exit(runtime: Runtime, tmp_path: Path, path: str) -> None:
    # S14, S41, S45: under load, the messages are a prefix of what was sent
    count = 4
    noted = [tmp_path / f"journal-{n}" for n in range(count)]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(runtime.ws_url(f"{path}?path={one}&n=1"))) for one in noted]
        for client in clients:
            client.recv(timeout=15)
        stop = threading.Event()

        def flood(client: ClientConnection) -> None:
            number = 0
            with contextlib.suppress(ConnectionClosed):
                while not stop.is_set():
                    client.send(str(number))
                    number += 1

        threads = [threading.Thread(target=flood, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        wait_until(lambda: all(len(journal(one)) > 100 for one in noted))
        kill_gateway(runtime)
        stop.set()
        for thread in threads:
            thread.join()
    for one in noted:
        wait_until(lambda one=one: journal(one)[-1]["topic"] in ("exit", "link_down"))  # type: ignore[misc]
        wanted = 2 if path == "/noted" else 1
        wait_until(lambda one=one, n=wanted: journal(one)[-n]["topic"] == "exit")  # type: ignore[misc]
        lines = journal(one)
        ends = lines[-wanted:]
        assert [line["topic"] for line in ends] == ["exit", "link_down"][:wanted]
        assert {(line["kind"], line["detail"]) for line in ends} == {("noconnection", "gateway_lost")}
        assert (lines[-wanted - 1]["topic"], lines[-wanted - 1]["reason"]) == ("ws.leave", "gateway_lost")
        assert [line["topic"] for line in lines].count("ws.leave") == 1
        messages = [line for line in lines if line["topic"] == "ws.message"]
        assert len(messages) == len(lines) - wanted - 2
        if path == "/noted":
            assert [line["data"] for line in messages] == [str(number) for number in range(len(messages))]
            assert lines[-wanted - 1]["code"] is None
            assert lines[-wanted - 1]["metadata"] == {"n": "1"}


def test_a_stopped_worker_finds_the_leave_when_it_goes_on(runtime: Runtime) -> None:
    # S14, S17, S41: the gateway dies twice meanwhile
    with Puppet(runtime) as one:
        one.do("process.registry.register('one')")
        one.do("process.monitor(client)")
        os.kill(one.os_pid, signal.SIGSTOP)
        one.order("1 + 1")
        kill_gateway(runtime)
        kill_gateway(runtime)
    os.kill(one.os_pid, signal.SIGCONT)
    with Puppet(runtime, to="one") as again:
        assert again.client_pid.endswith("g3.1}")
        assert again.do("[m.payload['reason'] for m in mail if m.topic == 'ws.leave']") == ["gateway_lost"]
        assert [event["text"] for event in again.events_now()] == ["noconnection: gateway_lost"]


def test_nobody_is_refused_while_the_gateway_is_away(runtime: Runtime) -> None:
    # S41: the listening socket never closes; a handshake that was under way is cut, and may be tried again
    errors: list[int | None] = []
    stop = threading.Event()

    def knock() -> None:
        while not stop.is_set():
            with socket.socket() as client:
                client.settimeout(10)
                errors.append(client.connect_ex(("127.0.0.1", runtime.port())))

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        for _ in range(3):
            kill_gateway(runtime)
    finally:
        stop.set()
        thread.join()
    assert errno.ECONNREFUSED not in errors
    assert set(errors) == {0}
    with Puppet(runtime) as one:
        assert owner(one.client_pid) == "g4.1"


def test_a_gateway_that_dies_again_and_again_is_restarted_later_and_later(runtime: Runtime) -> None:
    # S41
    for _ in range(4):
        kill_gateway(runtime)
    delays = re.findall(r"the gateway ended: signal:SIGKILL: restarting it(?: in ([0-9.]+) s)?", runtime.log())
    assert delays == ["", "0.1", "0.2", "0.4"]
    with Puppet(runtime) as one:
        assert one.do("'fine'") == "fine"


def test_invocations_of_a_dead_gateway(runtime: Runtime, tmp_path: Path) -> None:
    # S41, S57: those that run run on, their answers go nowhere; those that wait are forgotten; the workers are used again
    path, latch = tmp_path / "slow", tmp_path / "latch"
    os.mkfifo(latch)
    request = f"GET /slow?path={path}&latch={latch} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(5):  # two run, three wait
            client = stack.enter_context(socket.create_connection(("127.0.0.1", runtime.port()), timeout=15))
            client.sendall(request)
            clients.append(client)
        wait_until(lambda: len(journal(path)) == 2)
        kill_gateway(runtime)
        for client in clients:
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1000) == b""
    latch.write_text("go")  # both have it open
    wait_until(lambda: sum("done" in line for line in journal(path)) == 2)
    workers = {line["os_pid"] for line in journal(path) if "os_pid" in line}
    assert len(journal(path)) == 4
    assert {int(get(runtime, "/quick")) for _ in range(8)} <= workers


def test_a_gateway_that_dies_while_it_is_asked_for_much(runtime: Runtime) -> None:
    # S41: granted invocations whose request never came do not keep their worker
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError, HTTPException):
                get(runtime, "/quick")

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(4):
            assert get(runtime, "/quick")
            kill_gateway(runtime)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert all(get(runtime, "/quick") for _ in range(8))


def test_a_gateway_that_hangs_is_restarted(tmp_path: Path) -> None:
    # S17, S41
    environment = {"WSRELAY_GATEWAY_HANG_LIMIT": str(HANG_LIMIT)}
    with running_runtime(tmp_path, ENTRIES, SOURCES, environment=environment) as runtime, Puppet(runtime) as one:
        one.do("process.registry.register('one')")
        gateway = runtime.gateway
        started = time.monotonic()
        os.kill(gateway, signal.SIGSTOP)
        wait_until(lambda: "serves again" in runtime.log(), message=runtime.log)
        assert time.monotonic() - started >= HANG_LIMIT
        wait_until(lambda: "the gateway has not answered for 1 s: restarting it" in runtime.log(), message=runtime.log)
        assert runtime.gateway != gateway
        assert line_is_lost(one.connection)
        with Puppet(runtime, to="one") as again:
            assert again.os_pid == one.os_pid
            assert again.do("[m.payload['reason'] for m in mail if m.topic == 'ws.leave']") == ["gateway_lost"]


def test_a_supervisor_that_was_stopped_does_not_blame_the_gateway(tmp_path: Path) -> None:
    # The watchdog counts its own ticks: what passed while it stood still is nobody's silence.
    with running_runtime(tmp_path, ENTRIES, SOURCES, environment={"WSRELAY_GATEWAY_HANG_LIMIT": "0.5"}) as runtime:
        supervisor, gateway = runtime.supervisor, runtime.gateway
        os.kill(supervisor, signal.SIGSTOP)
        until = time.monotonic() + 1.0
        wait_until(lambda: time.monotonic() > until)
        os.kill(supervisor, signal.SIGCONT)
        with Puppet(runtime) as one:
            assert one.do("'fine'") == "fine"
        assert runtime.gateway == gateway


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_while_the_runtime_stops_no_gateway_is_restarted(runtime: Runtime, number: int) -> None:
    with Puppet(runtime) as one:
        one.do("1")
        gateway = runtime.gateway
        os.kill(gateway, signal.SIGSTOP)
        runtime.process.terminate()
        wait_until(lambda: "stopping" in runtime.log())
        os.kill(gateway, number)
        assert runtime.stop() == 0
    assert "restarting" not in runtime.log()
