"""Asks systemd, the journal and the relay, and waits for what is to come."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from .application import PORT, UNIT

PATIENCE = float(os.environ.get("WSRELAY_PATIENCE", "30"))
"""Seconds."""


def run(*command: str) -> str:
    """Run a command; return what it printed. Raises AssertionError if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s for {what}"
        select.select([], [], [], 0.05)
    return value


def show(name: str, unit: str = UNIT) -> str:
    """A property of a unit."""
    return run("systemctl", "show", "--value", "--property", name, unit).strip()


def wait_active(unit: str = UNIT) -> None:
    wait_until(lambda: show("ActiveState", unit) == "active", f"{unit} to run")


def processes(unit: str = UNIT) -> list[int]:
    """Every process in the unit's control group."""
    group = show("ControlGroup", unit)
    if not group:
        return []
    found: list[int] = []
    for file in Path(f"/sys/fs/cgroup{group}").rglob("cgroup.procs"):
        with contextlib.suppress(FileNotFoundError):
            found += map(int, file.read_text().split())
    return found


def supervisor(unit: str = UNIT) -> int:
    """The child of the main process with the same command line."""
    main = int(show("MainPID", unit))
    command = Path(f"/proc/{main}/cmdline").read_bytes()
    [child] = [
        each for each in processes(unit) if each != main and Path(f"/proc/{each}/cmdline").read_bytes() == command
    ]
    return child


def exposure(unit: str = UNIT) -> float:
    """What `systemd-analyze security` says of a unit, from 0 to 10."""
    last = run("systemd-analyze", "security", "--no-pager", unit).strip().splitlines()[-1].strip()
    print(f"# {last}")
    return float(last.split(": ")[1].split()[0])


def status(os_pid: int, name: str) -> str:
    """A field of /proc/OS_PID/status."""
    found = re.search(rf"^{name}:\t(.*)$", Path(f"/proc/{os_pid}/status").read_text(), re.MULTILINE)
    assert found is not None, name
    return found[1]


def journal(*matches: str) -> list[dict[str, Any]]:
    """Entries of the journal."""
    lines = run("journalctl", "--all", "--output", "json", "--no-pager", *matches).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def open_line(port: int = PORT, path: str = "/ws") -> ClientConnection:
    return connect(f"ws://127.0.0.1:{port}{path}", open_timeout=PATIENCE, proxy=None)


def ask(line: ClientConnection, text: str) -> str:
    line.send(text)
    return str(line.recv(timeout=PATIENCE))


def look(port: int = PORT) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/look", timeout=PATIENCE) as answer:
        seen: dict[str, Any] = json.load(answer)
        return seen


def status_of(path: str) -> int:
    """The status that a request is answered with."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=PATIENCE) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def close_code(line: ClientConnection) -> int:
    """Read until the end; return how it ended."""
    try:
        while True:
            line.recv(timeout=PATIENCE)
    except ConnectionClosed:
        return line.close_code or 0


@contextlib.contextmanager
def settings(text: str, unit: str = UNIT) -> Iterator[None]:
    """A drop-in for the time of a check."""
    file = Path(f"/run/systemd/system/{unit}.d/check.conf")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        file.unlink()
        run("systemctl", "daemon-reload")


def listener_inode(port: int) -> str:
    """The kernel's number of the socket that listens."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{port:04X}") and fields[3] == "0A":
            return fields[9]
    raise AssertionError(f"nobody listens on {port}")
