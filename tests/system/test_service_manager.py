"""The runtime under a service manager: one that a test plays, and this machine's systemd in a container."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.runtime import GATEWAY, PROCESSES, actor, application, running_runtime
from support.waiting import wait_until

ROOT = Path(__file__).parents[2]
SERVICE = {"name": "steady.service", "kind": "process.service", "process": "steady", "host": "processes"}
SOURCES = {
    "app.py": """
        import pathlib
        from wsrelay.workers import process

        def steady():
            pathlib.Path("ENVIRONMENT").write_text(pathlib.Path("/proc/self/environ").read_text())
            while not isinstance(process.receive(), process.Cancel):
                pass
    """
}


class ServiceManager:
    """The notification socket of a service manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.said: list[tuple[int, str]] = []
        """Who has said what: the os_pid that the kernel vouches for."""
        self.stored: dict[str, int] = {}

    def listen(self) -> list[str]:
        """Take what has come; return all that was ever said."""
        space = socket.CMSG_SPACE(12) + socket.CMSG_SPACE(4)
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(8192, space)
            except BlockingIOError:
                return [text for _, text in self.said]
            for _, kind, content in ancillary:
                if kind == socket.SCM_CREDENTIALS:
                    self.said.append((struct.unpack("3i", content)[0], data.decode()))
                else:
                    name = data.decode().partition("FDNAME=")[2]
                    self.stored[name] = struct.unpack("i", content)[0]

    def hear(self, text: str) -> str:
        """Wait until something with this in it is said; return it."""

        def found() -> str:
            return next((said for said in self.listen() if text in said), "")

        return wait_until(found, 30.0, lambda: f"{text!r} to be said; said was {self.said}")

    def close(self) -> None:
        self._socket.close()
        for descriptor in self.stored.values():
            os.close(descriptor)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    made = ServiceManager(tmp_path / "notify")
    yield made
    made.close()


def test_ready_status_watchdog_store_and_stopping(tmp_path: Path, manager: ServiceManager) -> None:
    report = tmp_path / "environment"
    sources = {"app.py": SOURCES["app.py"].replace("ENVIRONMENT", str(report))}
    environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "2000000"}
    entries = application(actor("steady"), SERVICE)
    with running_runtime(tmp_path, entries, sources, environment=environment) as runtime:
        assert "1 of 1 services run" in manager.hear("READY=1")
        manager.hear("WATCHDOG=1")
        assert manager.hear("FDSTORE=1") == "FDSTORE=1\nFDNAME=stored/app/gateway"
        with socket.socket(fileno=os.dup(manager.stored["stored/app/gateway"])) as stored:
            assert stored.getsockname()[1] == runtime.port()
        wait_until(report.exists)
        assert "NOTIFY_SOCKET" not in report.read_text()
        assert "WATCHDOG_USEC" not in report.read_text()
        runtime.stop()
        assert "EXTEND_TIMEOUT_USEC=" in manager.hear("STOPPING=1")
    main = {os_pid for os_pid, _ in manager.said}
    assert main == {runtime.process.pid}, "the main process alone notifies"


def test_a_supervisor_that_stands_still_gives_no_sign_of_life(tmp_path: Path, manager: ServiceManager) -> None:
    environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "400000"}
    with running_runtime(tmp_path, application(), {}, environment=environment) as runtime:
        manager.hear("WATCHDOG=1")
        os.kill(runtime.supervisor, signal.SIGSTOP)
        wait_until(lambda: psutil.Process(runtime.supervisor).status() == psutil.STATUS_STOPPED)
        manager.listen()
        runtime.process.send_signal(signal.SIGABRT)  # as systemd's watchdog does
        os.kill(runtime.supervisor, signal.SIGCONT)
        assert runtime.process.wait(30) == 128 + signal.SIGABRT
        assert "Fatal Python error: Aborted" in runtime.log()
        assert "most recent call first" in runtime.log()


def test_nobody_reads_what_is_said(tmp_path: Path, manager: ServiceManager) -> None:
    """The service manager's queue is full: everything goes on, and READY comes once there is room."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as chatter:
        chatter.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                chatter.sendto(b"STATUS=full", str(manager.path))
    environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "200000"}
    with running_runtime(tmp_path, application(), {}, environment=environment):
        manager.hear("READY=1")


def test_a_socket_that_is_passed_is_served(tmp_path: Path) -> None:
    """Socket activation, as systemd does it: the descriptors from 3 on, and who they are for."""
    folder = tmp_path / "application"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        from support.runtime import write_application

        write_application(folder, [{**GATEWAY, "addr": f"127.0.0.1:{port}"}, PROCESSES], {})
        assert serve_passed(folder, listener, "gateway", tmp_path / "log", port) == 0
        assert serve_passed(folder, listener, "other", tmp_path / "log", port) == 1
    assert "a socket named 'other': expected one of app/gateway, gateway" in (tmp_path / "log").read_text()


def serve_passed(folder: Path, listener: socket.socket, name: str, log: Path, port: int) -> int:
    """Run with the listener as descriptor 3 until it has answered, or has ended. Returns the exit code."""
    command = (
        f'exec 3<&{listener.fileno()}; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={name}; exec "$0" run "$1"'
    )
    with log.open("ab") as output:
        running = subprocess.Popen(
            ["bash", "-c", command, ROOT / ".venv/bin/wsrelay", folder],
            pass_fds=[listener.fileno()],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
        )
    try:
        with socket.create_connection(("127.0.0.1", port)) as client:  # it waits in the queue
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            client.setblocking(False)

            def answered() -> bool:
                try:
                    return bool(client.recv(100))
                except BlockingIOError:
                    return False

            wait_until(lambda: running.poll() is not None or answered(), 30.0, log.read_text)
        running.terminate()
        return running.wait(30)
    finally:
        running.kill()
        running.wait()


def test_under_a_real_systemd() -> None:
    done = subprocess.run(
        [ROOT / "tools" / "systemd-test"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode == 77:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
