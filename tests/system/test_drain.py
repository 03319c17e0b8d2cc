"""What a stop does to clients and actors, in which order, and what the log says of it."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import echo
from support.clients import close_of
from support.runtime import GATEWAY, PROCESSES, ROUTER, Runtime, actor, endpoint, running_runtime
from support.waiting import wait_until
from websockets.sync.client import connect

DEAF_ACTOR = """
import signal

def deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()
"""
SOURCES = {"app.py": echo.SOURCE + DEAF_ACTOR}
DEAF = {
    "name": "deaf.service",
    "kind": "process.service",
    "process": "deaf",
    "host": "processes",
    "lifecycle": {"stop_timeout": "300ms"},
}


@contextlib.contextmanager
def running(tmp_path: Path, drain: dict[str, object], *more: dict[str, object]) -> Iterator[Runtime]:
    gateway = {**GATEWAY, "drain": drain, "timeouts": {"close": "500ms"}}
    entries = [gateway, PROCESSES, ROUTER, *endpoint("/ws", "connect"), actor("echo"), actor("deaf"), *more]
    with running_runtime(tmp_path, entries, SOURCES) as runtime:
        yield runtime


def test_batches_with_the_code_that_is_configured(tmp_path: Path) -> None:
    with running(tmp_path, {"within": "2s", "batch": 1, "code": 1012}) as runtime, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(runtime.ws_url("/ws"))) for _ in range(4)]
        runtime.process.send_signal(signal.SIGTERM)
        assert {close_of(client) for client in clients} == {(1012, "shutdown")}
        assert runtime.process.wait(30) == 0
        assert re.search(
            r"stopped in \S+ s: connections 4 closed, 0 cut; processes [45] ended, 0 killed", runtime.log()
        )


def test_who_waits_for_its_turn_is_served_and_who_comes_is_refused(tmp_path: Path) -> None:
    with running(tmp_path, {"within": "5s", "batch": 1}) as runtime, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(runtime.ws_url("/ws"))) for _ in range(30)]
        port = runtime.port()
        runtime.process.send_signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                return True
            return False

        wait_until(refused)
        served = 0
        for client in clients:
            with contextlib.suppress(Exception):
                client.send("still there?")
                served += client.recv(timeout=15) == "still there?"
        assert served > 0
        assert {close_of(client)[0] for client in clients} == {1001}
        assert runtime.process.wait(30) == 0


def test_nobody_who_does_not_answer_holds_it_up(tmp_path: Path) -> None:
    with running(tmp_path, {}, DEAF) as runtime:
        with socket.create_connection(("127.0.0.1", runtime.port())) as silent:
            head = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            silent.sendall(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode())
            assert silent.recv(4096).startswith(b"HTTP/1.1 101")
            assert runtime.stop() == 0
        assert re.search(r"connections 0 closed, 1 cut; processes [12] ended, 1 killed", runtime.log())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_wait_for_the_drain(tmp_path: Path, number: int) -> None:
    with running(tmp_path, {"within": "1h", "batch": 1}) as runtime, contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connect(runtime.ws_url("/ws")))
        with socket.create_connection(("127.0.0.1", runtime.port())) as silent:
            silent.sendall(b"GET / HTTP/1.1\r\n")
            runtime.process.send_signal(number)
            wait_until(lambda: "stopping" in runtime.log())

            def gone() -> bool:
                runtime.process.send_signal(number)
                return runtime.process.poll() is not None

            wait_until(gone)
    assert runtime.process.returncode == 0
