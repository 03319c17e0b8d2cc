"""A runtime whose standard streams are closed: the numbers 0 to 2 are nobody else's, and it serves."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.runtime import GATEWAY, application, endpoint, write_application
from support.waiting import TIMEOUT, wait_until

WSRELAY = Path(sys.executable).with_name("wsrelay")
SOURCES = {"app.py": "from wsrelay.workers import http\ndef hello(): print('said'); http.response().write('hello')"}


class LocalConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self.host)


def get(path: Path) -> bytes:
    connection = LocalConnection(str(path))
    try:
        connection.request("GET", "/hello", headers={"Host": "h"})
        return connection.getresponse().read()
    finally:
        connection.close()


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_it_serves_and_stops(tmp_path: Path, closed: str) -> None:
    path = tmp_path / "socket"
    entries = [
        {**entry, "addr": f"unix:{path}"} if entry == GATEWAY else entry
        for entry in application(endpoint("/hello", "hello"))
    ]
    write_application(tmp_path / "application", entries, SOURCES)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    command = f'exec "$0" run application {closed}'
    runtime = subprocess.Popen(
        ["/bin/sh", "-c", command, WSRELAY], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL
    )
    try:
        wait_until(path.exists, message="the socket")
        assert [get(path) for _ in range(3)] == [b"hello"] * 3
        for process in [psutil.Process(runtime.pid), *psutil.Process(runtime.pid).children(recursive=True)]:
            streams = {number: os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)}
            assert not [name for name in streams.values() if name.startswith(("socket:", "anon_inode:"))], streams
        runtime.send_signal(signal.SIGTERM)
        assert runtime.wait(TIMEOUT) == 0
    finally:
        runtime.kill()
        runtime.wait()
