"""The examples do what their pages say."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.clients import close_of
from support.runtime import Runtime, running_example, running_runtime
from support.waiting import wait_until
from websockets.sync.client import ClientConnection, connect

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Runtime]:
    with running_example(tmp_path_factory.mktemp(request.param), EXAMPLES / request.param) as running:
        yield running


def example(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("runtime", [name], indirect=True)


def receive(client: ClientConnection, **expected: Any) -> dict[str, Any]:
    """The next message of the client in which everything is as `expected`."""
    while True:
        message: dict[str, Any] = json.loads(client.recv(timeout=15))
        if expected.items() <= message.items():
            return message


@pytest.mark.parametrize("path", ["/ws/echo", "/ws/shared"])
@example("echo")
def test_echo(runtime: Runtime, path: str) -> None:
    with connect(runtime.ws_url(path)) as one, connect(runtime.ws_url(path)) as two:
        for message in ("text ✓", b"\x00\xff", "", "x" * 100_000):
            one.send(message)
            two.send(message)
            assert one.recv(timeout=15) == message
            assert two.recv(timeout=15) == message


@example("echo")
def test_the_shared_echo_outlives_its_process(runtime: Runtime) -> None:  # S56
    with connect(runtime.ws_url("/ws/shared"), ping_interval=None) as client:
        client.send("before")
        assert client.recv(timeout=15) == "before"
        forked = [psutil.Process(os_pid) for os_pid, command in runtime.processes().items() if "shell.host" in command]
        host, *workers = sorted(forked, key=lambda one: (one.create_time(), one.pid))
        for worker in workers:  # function workers too: they are replaced
            worker.kill()
        wait_until(lambda: "backing off" in runtime.log(), message="the service to restart")
        client.send("after")
        assert client.recv(timeout=15) == "after"
        assert host.is_running()


@example("chat")
def test_the_chat_s_page_needs_nothing_from_elsewhere(runtime: Runtime) -> None:
    page = urllib.request.urlopen(runtime.url("/")).read().decode()
    linked = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert [link for link in linked if not link.startswith("data:")] == ["chat.css", "chat.js"]
    types = []
    for name in ("chat.css", "chat.js"):
        with urllib.request.urlopen(runtime.url(f"/{name}")) as answer:
            types.append(answer.headers.get_content_type())
            assert "innerHTML" not in answer.read().decode()
    assert types == ["text/css", "text/javascript"]


@example("chat")
def test_two_guests_talk(runtime: Runtime) -> None:
    with connect(runtime.ws_url("/ws/chat?name=ann")) as ann, connect(runtime.ws_url("/ws/chat?name=bob")) as bob:
        assert receive(ann, kind="joined", name="bob")["guests"] == ["ann", "bob"]
        bob.send(json.dumps({"kind": "say", "text": "<b>hi</b>"}))
        for guest in (ann, bob):
            assert receive(guest, kind="said") == {"kind": "said", "name": "bob", "text": "<b>hi</b>"}
        bob.send("no JSON")
        bob.send("[]")
        bob.send(b"\xff")
        bob.close()
        assert receive(ann, kind="left") == {"kind": "left", "name": "bob", "guests": ["ann"]}


@pytest.mark.parametrize(
    ("how", "code", "reason"),
    [
        ("raise", 1011, "exception"),
        ("segfault", 1011, "signal:SIGSEGV"),
        ("kill", 1011, "signal:SIGKILL"),
        ("return", 1000, "normal"),
        ("hang", 1011, "killed"),
    ],
)
@example("chat")
def test_a_crash_button(runtime: Runtime, how: str, code: int, reason: str) -> None:  # S17, S18, S49
    with connect(runtime.ws_url("/ws/chat?name=ann")) as ann, connect(runtime.ws_url("/ws/chat?name=bob")) as bob:
        first = receive(bob, kind="room")["os_pid"]
        ann.send(json.dumps({"kind": "crash", "how": how}))
        assert close_of(ann) == close_of(bob) == (code, reason)
        with connect(runtime.ws_url("/ws/chat?name=ann")) as again:
            assert receive(again, kind="joined")["guests"] == ["ann"]
            assert receive(again, kind="room")["os_pid"] != first


@example("chat")
def test_guests_who_come_at_once_share_one_room(runtime: Runtime) -> None:
    with contextlib.ExitStack() as guests, ThreadPoolExecutor(8) as pool:

        def enter(number: int) -> ClientConnection:
            return guests.enter_context(connect(runtime.ws_url(f"/ws/chat?name=guest{number}")))

        rooms = {receive(guest, kind="room")["os_pid"] for guest in pool.map(enter, range(8))}
        assert len(rooms) == 1


@example("rooms")
def test_the_lobby_hands_each_connection_to_its_room(runtime: Runtime) -> None:  # S47
    def enter(room: str, user: str) -> ClientConnection:
        return connect(runtime.ws_url(f"/ws/rooms/{room}?user={user}"))

    with enter("blue", "ann") as ann, contextlib.ExitStack() as others:
        ann.send("early")  # may still reach the lobby, which passes it on
        assert receive(ann, user="ann", text="early")["room"] == "blue"
        bob = others.enter_context(enter("blue", "bob"))
        cid = others.enter_context(enter("red", "cid"))
        receive(ann, joined="bob", members=["ann", "bob"])
        assert receive(cid, joined="cid")["members"] == ["cid"]
        for number in range(50):
            bob.send(str(number))
        for member in (ann, bob):
            assert [receive(member, user="bob")["text"] for _ in range(50)] == [str(number) for number in range(50)]
        cid.send("to the red room")
        assert receive(cid, text="to the red room") == {"room": "red", "user": "cid", "text": "to the red room"}
        bob.close()
        receive(ann, left="bob", members=["ann"])


def test_the_demo_serves_and_stops(tmp_path: Path) -> None:
    """`tools/demo` without the shell around it, which only makes the environment."""
    port = _free_port()
    command = [sys.executable, ROOT / "tools" / "demonstration.py", "--port", str(port)]
    log = tmp_path / "log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, process_group=0) as demo:
        try:
            url = f"http://127.0.0.1:{port}/"
            wait_until(lambda: f"Open {url} in two tabs" in log.read_text(), message=log.read_text)
            assert b"wsrelay chat" in urllib.request.urlopen(url).read()
            taken = subprocess.run(command, capture_output=True, text=True, check=False)
            assert taken.returncode == 1
            assert f"something else listens on 127.0.0.1:{port}" in taken.stderr
        finally:
            os.killpg(demo.pid, signal.SIGINT)  # Ctrl-C in a terminal reaches the whole group
        assert demo.wait(30) == 0, log.read_text()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def test_the_readme_s_minimal_application(tmp_path: Path) -> None:
    """What a newcomer copies runs as it is written."""
    blocks = dict(
        re.findall(r"```(yaml|python)\n(.*?)```", (ROOT / "README.md").read_text().partition("\n## How")[0], re.S)
    )
    entries = blocks["yaml"].replace("127.0.0.1:8080", "127.0.0.1:0")
    sources = {"echo.py": blocks["python"]}
    with running_runtime(tmp_path, entries, sources) as runtime, connect(runtime.ws_url("/ws/echo")) as client:
        client.send("hello")
        assert client.recv(timeout=15) == "hello"
