"""What the operating system sees of a runtime: descriptors, threads, and the runtime as PID 1 of a container."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support import echo
from support.runtime import GATEWAY, PROCESSES, ROUTER, Runtime, actor, endpoint, running_runtime, write_application
from support.waiting import wait_until
from websockets.sync.client import connect

ENTRIES = [GATEWAY, PROCESSES, ROUTER, *endpoint("/ws", "connect"), actor("echo")]
SOURCES = {"app.py": echo.SOURCE}
WSRELAY = Path(sys.executable).with_name("wsrelay")


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with running_runtime(tmp_path, ENTRIES, SOURCES, environment={"NOTIFY_SOCKET": str(tmp_path / "nobody")}) as made:
        yield made


def descriptors(os_pid: int) -> list[str]:
    found = []
    for name in os.listdir(f"/proc/{os_pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{os_pid}/fd/{name}"))
    return found


def hosts_and_workers(runtime: Runtime) -> list[int]:
    return [os_pid for os_pid, command in runtime.processes().items() if "workers.shell.host" in command]


def test_no_descriptor_leaks_into_a_worker(runtime: Runtime) -> None:
    listening = {
        line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"
    }
    with connect(runtime.ws_url("/ws")) as one, connect(runtime.ws_url("/ws")) as other:
        for client in (one, other):
            client.send("hello")
            assert client.recv(timeout=15) == "hello"
        seen = {os_pid: descriptors(os_pid) for os_pid in hosts_and_workers(runtime)}
        assert len(seen) == 1 + 2 + 2, "one host, two function workers, two actors"
        sockets: list[str] = []
        for found in seen.values():
            # Standard streams, control, data, and the pipe that wakes a worker.
            assert len(found) <= 7, seen
            own = [what for what in found if what.startswith("socket:")]
            assert not any(what[8:-1] in listening for what in own), "a worker holds a listening socket"
            sockets += own
        assert len(sockets) == len(set(sockets)), "two processes hold the end of one channel"
        wait_until(
            lambda: "the service manager (NOTIFY_SOCKET) cannot be told: [Errno 2]" in runtime.log(),
            message=runtime.log,
        )
        guardian = descriptors(runtime.process.pid)
        assert len(guardian) == 3 + 2, f"beside the standard ones, the way to the service manager: {guardian}"


def test_a_host_has_one_thread_and_the_others_a_second_one_for_the_log(runtime: Runtime) -> None:
    # A lock that another thread holds stays locked in a child. Guardian and supervisor fork no more, once they have the second.
    with connect(runtime.ws_url("/ws")) as client:
        client.send("hello")
        client.recv(timeout=15)
        [host] = [each for each in hosts_and_workers(runtime) if is_host(runtime, each)]
        threads = [
            len(os.listdir(f"/proc/{os_pid}/task")) for os_pid in (host, runtime.process.pid, runtime.supervisor)
        ]
        assert threads == [1, 2, 2], "the guardian has logged that it has nobody to notify"


def is_host(runtime: Runtime, os_pid: int) -> bool:
    """Whether it is the fork server: that is older than what it has forked."""
    return psutil.Process(os_pid).create_time() == min(
        psutil.Process(each).create_time() for each in hosts_and_workers(runtime)
    )


# --- PID 1 ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def container(folder: Path, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The runtime as PID 1 of a PID namespace. Yields what waits for it outside, and its os_pid out here."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("a PID namespace needs root and util-linux")
    with log.open("wb") as output:
        outside = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", WSRELAY, "run", folder],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    def serves() -> bool:
        assert outside.poll() is None, log.read_text()
        return "serving" in log.read_text()

    try:
        wait_until(serves, 30.0, log.read_text)
        [first] = psutil.Process(outside.pid).children()
        yield outside, first.pid
    finally:
        outside.kill()
        outside.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_application(tmp_path / "application", ENTRIES, SOURCES)
    return tmp_path / "application"


def address(log: Path) -> str:
    found = re.search(r"on http://(\S+)", log.read_text())
    assert found is not None
    return found[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_pid_1_stops_in_good_order(folder: Path, tmp_path: Path, number: int) -> None:
    # The kernel drops signals to PID 1 that it does not handle.
    with container(folder, tmp_path / "log") as (outside, first):
        with connect(f"ws://{address(tmp_path / 'log')}/ws") as client:
            client.send("hello")
            assert client.recv(timeout=15) == "hello"
        os.kill(first, number)
        assert outside.wait(30) == 0
        assert "stopped in" in (tmp_path / "log").read_text()


def test_pid_1_reaps_strangers_and_leaves_them_alone(folder: Path, tmp_path: Path) -> None:
    with container(folder, tmp_path / "log") as (outside, first):
        here, there = socket.socketpair()
        with here, there:
            # `docker exec`: what that leaves behind becomes a child of PID 1. It lives until it is told.
            script = 'setsid sh -c "echo here; read line" <&0 >&0 & exit'
            subprocess.run(
                [
                    "nsenter",
                    "--target",
                    str(first),
                    "--pid",
                    "sh",
                    "-c",
                    f"exec 3<&0; {script.replace('<&0 >&0', '<&3 >&3')}",
                ],
                stdin=there,
                check=True,
            )
            assert here.recv(100) == b"here\n"
            strangers = [each for each in psutil.Process(first).children() if each.name() == "sh"]
            assert len(strangers) == 1
            here.sendall(b"go\n")
            wait_until(lambda: not strangers[0].is_running(), message="the stranger to be reaped")
        assert outside.poll() is None


def test_pid_1_ends_when_the_supervisor_dies(folder: Path, tmp_path: Path) -> None:
    with container(folder, tmp_path / "log") as (outside, first):
        [supervisor] = psutil.Process(first).children()
        supervisor.kill()
        assert outside.wait(30) == 128 + signal.SIGKILL
        assert not psutil.pid_exists(first)
