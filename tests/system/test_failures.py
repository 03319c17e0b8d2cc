"""When a part of the runtime fails: the gateway, the supervisor, its guardian, a host, a channel (S40 to S43)."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
from support.fork_server import host_of
from support.puppet import PUPPET_ENTRIES, PUPPET_SOURCES, Puppet
from support.runtime import MARK, Runtime, actor, endpoint, running_runtime, write_application
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


def line_is_lost(client: ClientConnection) -> bool:
    """Read to the end. Whether the line was cut, without a close frame."""
    while True:
        try:
            client.recv(timeout=15)
        except ConnectionClosed as closed:
            return closed.rcvd is None


def owner(pid: str) -> str:
    """Who allocated a PID: `s`, or `g` and the gateway's incarnation; and its serial."""
    return pid.split("|")[1].split(".", 1)[1].rstrip("}")


def get(runtime: Runtime, path: str) -> str:
    with urlopen(runtime.url(path), timeout=15) as response:
        return str(response.read().decode())


# --- the gateway dies (S41) -------------------------------------------------------------------------------------------


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


# --- the gateway hangs (S41) ------------------------------------------------------------------------------------------


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
        assert "the gateway has not answered for 1 s: restarting it" in runtime.log()
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


# --- the supervisor dies (S40) ----------------------------------------------------------------------------------------

TREE = """
def tree(daemon):
    if os.fork() == 0:
        if daemon:
            os.setsid()
            if os.fork() != 0:
                os._exit(0)
        for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(n, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
            os.kill(os.getpid(), signal.SIGSTOP)
        while True:
            signal.pause()
tree(False)
tree(True)
os.environ.clear()
"""


def grow_tree(runtime: Runtime, puppet: Puppet) -> set[int]:
    """Leave children and grandchildren in sessions of their own, stopped ones too. Returns everybody, when all are there."""
    before = len(runtime.processes())
    puppet.order(TREE)
    puppet.answer()
    wait_until(lambda: len(runtime.processes()) == before + 4, message=lambda: str(runtime.processes()))
    wait_until(lambda: sum(state_of(os_pid) == "T" for os_pid in runtime.processes()) == 2)
    return set(runtime.processes())


def state_of(os_pid: int) -> str:
    """One letter, as in proc(5); empty if there is none."""
    try:
        return Path(f"/proc/{os_pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_nothing_outlives_the_supervisor(runtime: Runtime, number: int) -> None:
    # S40: stopped ones and those that moved to another session included
    with Puppet(runtime) as one, Puppet(runtime) as stopped:
        everybody = grow_tree(runtime, one)
        os.kill(stopped.os_pid, signal.SIGSTOP)
        os.kill(runtime.supervisor, number)
        wait_until(lambda: runtime.process.poll() is not None, message=runtime.log)
        # At once: when the guardian has ended there is nobody.
        assert {os_pid for os_pid in everybody if state_of(os_pid)} == set()
        assert runtime.process.returncode == 128 + number
        assert line_is_lost(one.connection)
    assert f"the supervisor was ended by {number.name}" in runtime.log()  # type: ignore[attr-defined]


@pytest.mark.parametrize("stopped", [False, True], ids=["awake", "stopped"])
def test_nothing_outlives_the_guardian(runtime: Runtime, stopped: bool) -> None:
    # S40: its death is seen by the supervisor, which leaves nothing; one that was stopped is woken for it
    with Puppet(runtime) as one:
        everybody = grow_tree(runtime, one)
        if stopped:
            os.kill(runtime.supervisor, signal.SIGSTOP)
        runtime.process.kill()
        wait_until(lambda: runtime.process.poll() is not None)
        wait_until(lambda: not [os_pid for os_pid in everybody if state_of(os_pid) not in ("", "Z")])
    assert "is gone: stopping at once" in runtime.log()


def test_a_stopped_supervisor_is_woken_by_the_guardian_s_death(tmp_path: Path) -> None:
    # S40: also where the kernel does not wake it, because whoever takes it over is of its session
    folder, log = tmp_path / "application", tmp_path / "log"
    write_application(folder, PUPPET_ENTRIES, PUPPET_SOURCES)
    subreaper = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
subprocess.Popen(sys.argv[1:], process_group=0)
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""
    command = [sys.executable, "-c", subreaper, str(Path(sys.executable).with_name("wsrelay")), "run", str(folder)]
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    everybody = [psutil.Process(started.pid)]
    try:
        wait_until(lambda: "serving" in log.read_text(), 30.0, log.read_text)
        [guardian] = psutil.Process(started.pid).children()
        [supervisor] = guardian.children()
        everybody += everybody[0].children(recursive=True)
        supervisor.suspend()
        wait_until(lambda: supervisor.status() == psutil.STATUS_STOPPED)
        guardian.kill()
        wait_until(lambda: started.poll() is not None, 30.0, log.read_text)
        assert [one for one in everybody if one.is_running()] == []
    finally:
        for one in reversed(everybody):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        started.wait()
    assert "is gone: stopping at once" in log.read_text()


def test_the_next_boot_is_another_epoch(tmp_path: Path) -> None:
    # S1, S40: the address is free again, and nobody answers for the dead
    with running_runtime(tmp_path, ENTRIES, SOURCES) as runtime, Puppet(runtime) as one:
        os.kill(runtime.supervisor, signal.SIGKILL)
        wait_until(lambda: runtime.process.poll() is not None)
    with running_runtime(tmp_path, ENTRIES, SOURCES) as runtime, Puppet(runtime) as two:
        assert one.pid.split(".")[0] != two.pid.split(".")[0]
        two.do("process.monitor(pid)", pid=one.pid)
        assert two.event()["kind"] == "noproc"


def test_ctrl_c_in_a_terminal_comes_once(tmp_path: Path) -> None:
    # S40: the guardian is in the terminal's foreground group, and the supervisor is not
    folder = tmp_path / "application"
    write_application(folder, PUPPET_ENTRIES, PUPPET_SOURCES)
    command = str(Path(sys.executable).with_name("wsrelay"))
    os_pid, terminal = pty.fork()
    if os_pid == 0:
        os.environ[MARK] = "terminal"
        os.execv(command, [command, "run", str(folder)])
    output = bytearray()

    def read() -> bytearray:
        with contextlib.suppress(OSError):  # EIO: everybody has closed the other end
            output.extend(os.read(terminal, 4096))
        return output

    try:
        wait_until(lambda: b"serving" in read())
        os.write(terminal, b"\x03")
        wait_until(lambda: os.waitid(os.P_PID, os_pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))
        _, status = os.waitpid(os_pid, 0)
        while b"stopping" not in output:
            read()
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert output.count(b"stopping") == 1


def test_a_signal_to_all_processes_of_a_service_is_one(runtime: Runtime) -> None:
    # systemd's KillMode=control-group: the guardian hands on what the supervisor was told already
    for os_pid in (runtime.process.pid, runtime.supervisor):
        os.kill(os_pid, signal.SIGTERM)
    assert runtime.stop() == 0
    assert "stopping" in runtime.log()
    assert "at once" not in runtime.log()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, 128 + signal.SIGKILL)])
def test_as_pid_1(tmp_path: Path, number: int, code: int) -> None:
    # A container's first process: no signal acts by default there, and every orphan comes to it
    folder, log = tmp_path / "application", tmp_path / "log"
    write_application(folder, PUPPET_ENTRIES, PUPPET_SOURCES)
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += [str(Path(sys.executable).with_name("wsrelay")), "run", str(folder)]
    with log.open("wb") as output:
        started = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        wait_until(lambda: started.poll() is not None or "serving" in log.read_text(), 30.0)
        if started.poll() is not None and "unshare" in log.read_text():
            pytest.skip(log.read_text())
        [guardian] = children_of(started.pid)
        [supervisor] = children_of(guardian)
        os.kill(guardian if number == signal.SIGTERM else supervisor, number)
        assert started.wait(30) == code, log.read_text()
    finally:
        started.kill()
        started.wait()


def children_of(os_pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "stat").read_text().rpartition(")")[2].split()[1] == str(os_pid):
                found.append(int(entry.name))
    return found


# --- a channel breaks (S43) -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["SHUT_RDWR", "SHUT_RD", "SHUT_WR"])
@pytest.mark.parametrize("channel", ["control", "data"])
def test_a_worker_whose_channel_breaks_is_fenced(runtime: Runtime, channel: str, how: str) -> None:
    # S13, S43: it lives, and would never hear of what was dropped
    index = 0 if channel == "control" else -1
    with Puppet(runtime) as watcher, Puppet(runtime) as culprit:
        watcher.do("process.monitor(other)", other=culprit.pid)
        culprit.do("import socket, time")
        culprit.order(
            f"end = socket.socket(fileno=os.dup(channels()[{index}]))\nend.shutdown(socket.{how})\n"
            "os.write(2, b'is shut now\\n')\nwhile True: time.sleep(1)"
        )
        wait_until(lambda: "is shut now" in runtime.log())
        # What cannot be written is noticed when it is written.
        with contextlib.suppress(ConnectionClosed):
            culprit.connection.send("{}")
        watcher.do("process.send(other, 'news', 1)")
        event = watcher.event()
        assert event["kind"] == "noconnection"
        assert culprit.end() == (1011, "noconnection")
        assert watcher.do("'fine'") == "fine"


def test_a_worker_that_floods_its_data_channel_with_garbage_dies_alone(runtime: Runtime) -> None:
    # S11, S43: the gateway closes the channel and says so; the worker is killed before it can take that for the gateway's end
    with Puppet(runtime) as watcher, Puppet(runtime) as culprit:
        watcher.do("process.monitor(other)", other=culprit.pid)
        culprit.order("os.write(channels()[-1], b'\\xc1')\nwhile True: process.receive()")
        assert watcher.event()["kind"] == "protocol"
        assert culprit.end() == (1011, "protocol")


# --- a host dies (S41a) -----------------------------------------------------------------------------------------------


def test_workers_survive_their_host(runtime: Runtime) -> None:
    # S41a: no worker dies, no status is lost, spawns go on
    with Puppet(runtime) as one, Puppet(runtime) as two:
        host = host_of(runtime)
        one.do("process.monitor(two)", two=two.pid)
        os.kill(host, signal.SIGKILL)
        wait_until(lambda: "its fork server ended" in runtime.log())
        assert one.do("'fine'") == "fine"
        two.order("os._exit(4)")
        assert one.event()["kind"] == "exit:4"

        def spawned() -> bool:
            one.do("process.spawn_monitored('app:finish', HOST)")
            return bool(one.event()["kind"] == "normal")

        wait_until(spawned)
