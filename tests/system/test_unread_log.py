"""A log that nobody reads: nobody waits but who prints."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from support.runtime import actor, application, endpoint, write_application
from support.waiting import wait_until
from websockets.sync.client import ClientConnection, connect

TALKERS = """
    import json, os
    from wsrelay.workers import http, process

    def open_talk():
        http.response().relay_to(process.spawn("app:talk", "app:processes"))

    def quick():
        http.response().write("quick")

    def end(how):
        if how == "raise":
            raise ValueError("\U0001f600" * 8000)
        os._exit(int(how))

    def shout():
        while True:
            print("x" * 1000, flush=True)

    def talk():
        while True:
            match process.receive():
                case process.Message("ws.message", payload):
                    entry, *arguments = json.loads(payload["data"])
                    process.spawn_monitored(f"app:{entry}", "app:processes", *arguments)
                    client = payload["client_pid"]
                    answer = "spawned"
                case process.Exit(reason=reason):
                    answer = reason.kind
                case _:
                    continue
            process.send(client, "ws.send", {"data": answer})
"""
GATEWAY_WITH_LOG, *OTHERS = application(
    *(actor(name) for name in ("talk", "end", "shout")), endpoint("/talk", "open_talk"), endpoint("/quick", "quick")
)
ENTRIES = [{**GATEWAY_WITH_LOG, "access_log": True}, *OTHERS]
SERVING = re.compile(r"serving \S+ on (http://\S+)")
ENDED = re.compile(r"app:end \{\S+\.s\.(\d+)\} ended: ")
DROPPED = re.compile(
    r"WARNING entries of the log were dropped, because they could not be written: (\d+)$", re.MULTILINE
)
DEATHS = 150
"""With a traceback of 32 KiB each: more than is kept for a reader."""


class Unread:
    """A runtime whose log is a pipe, of which the test alone decides when it is read."""

    def __init__(self, folder: Path) -> None:
        write_application(folder, ENTRIES, {"app.py": TALKERS})
        command = [Path(sys.executable).with_name("wsrelay"), "run", folder]
        self.log = b""
        self._reading, writing = os.pipe()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing)
        os.close(writing)
        os.set_blocking(self._reading, False)
        wait_until(lambda: SERVING.search(self.read()), 30.0, self.read)
        self.url = SERVING.findall(self.read())[0]

    def read(self) -> str:
        """All that has come so far."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(16):  # who shouts may be as fast as we are
                self.log += os.read(self._reading, 1 << 16)
        self.log = self.log.replace(b"x" * 1000 + b"\n", b"")
        return self.log.decode(errors="replace")

    def is_full(self) -> bool:
        """Whether nothing more goes into the pipe."""
        own = os.open(f"/proc/self/fd/{self._reading}", os.O_WRONLY | os.O_NONBLOCK)
        try:
            return not select.select([], [own], [], 0)[1]
        finally:
            os.close(own)

    def connect(self) -> ClientConnection:
        """An actor that does what it is told."""
        return connect(f"ws{self.url.removeprefix('http')}/talk", ping_interval=None, open_timeout=30)

    def quick(self) -> str:
        """Ask a function."""
        with urlopen(f"{self.url}/quick", timeout=30) as answer:
            return str(answer.read().decode())

    def close(self) -> None:
        """Leave nothing of it."""
        self.process.kill()
        self.process.wait()
        os.close(self._reading)


@pytest.fixture
def unread(tmp_path: Path) -> Iterator[Unread]:
    made = Unread(tmp_path / "application")
    yield made
    made.close()


def tell(client: ClientConnection, entry: str, *arguments: str) -> None:
    client.send(json.dumps([entry, *arguments]))
    assert client.recv(timeout=30) == "spawned"


def test_a_log_that_nobody_reads_holds_up_only_who_prints(unread: Unread) -> None:
    # S10, S30, invariant 11: the pipe is the workers' too
    with unread.connect() as client:
        tell(client, "shout")
        wait_until(unread.is_full)
        for code in range(1, 9):
            tell(client, "end", str(code))
            assert client.recv(timeout=30) == f"exit:{code}"
            with unread.connect() as another:
                tell(another, "end", "9")
                assert another.recv(timeout=30) == "exit:9"
            assert unread.quick() == "quick"
        assert unread.is_full()
        # nothing is lost, and all is in order
        wait_until(lambda: len(ENDED.findall(unread.read())) == 16)
        wait_until(lambda: unread.read().count("GET /quick 200") == 8)
        serials = list(map(int, ENDED.findall(unread.read())))
        assert serials == sorted(serials)
        assert not DROPPED.search(unread.read())


def test_what_was_dropped_is_told_when_the_log_is_read_again(unread: Unread) -> None:
    with unread.connect() as client:
        tell(client, "shout")
        wait_until(unread.is_full)
        for _ in range(DEATHS):
            tell(client, "end", "raise")
            assert client.recv(timeout=30) == "exception"
        wait_until(lambda: DROPPED.search(unread.read()), message=lambda: unread.read()[-1000:])
        tell(client, "end", "5")
        assert client.recv(timeout=30) == "exit:5"
        wait_until(lambda: "ended: exit:5" in unread.read())
        before, dropped, after = DROPPED.split(unread.read())
        serials = list(map(int, ENDED.findall(before)))
        assert serials == sorted(serials)
        assert len(serials) + int(dropped) == DEATHS
        assert len(ENDED.findall(after)) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_runtime_ends_though_nobody_reads_its_log(unread: Unread, number: int) -> None:
    with unread.connect() as client:
        tell(client, "shout")
        wait_until(unread.is_full)
        unread.process.send_signal(number)
        wait_until(lambda: unread.process.poll() is not None, 30.0)
    assert unread.process.returncode == 0


def test_nothing_is_left_of_a_killed_supervisor_though_nobody_reads_its_log(unread: Unread) -> None:
    # S40: the guardian has something to say, too
    with unread.connect() as client:
        tell(client, "shout")
        wait_until(unread.is_full)
        [supervisor] = [child for child in psutil.Process(unread.process.pid).children() if "run" in child.cmdline()]
        supervisor.kill()
        wait_until(lambda: unread.process.poll() is not None, 30.0)
    assert unread.process.returncode == 128 + signal.SIGKILL
