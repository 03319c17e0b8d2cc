"""Reads the groups of a service, and the workers in them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from service_checks.asking import ask, journal, open_line, show, wait_until
from websockets.sync.client import ClientConnection

from .application import PORT, UNIT

ROOT = Path("/sys/fs/cgroup")


class Worker(NamedTuple):
    """One worker and the WebSocket that it serves."""

    line: ClientConnection
    os_pid: int
    pid: str
    group: Path

    def do(self, what: str) -> Any:
        """Have it do something that it comes back from; return the answer."""
        return json.loads(ask(self.line, what))


@contextlib.contextmanager
def worker(host: str, port: int = PORT) -> Iterator[Worker]:
    """A new worker of a host."""
    with open_line(port, f"/{host}") as line:
        os_pid, pid = json.loads(ask(line, "who"))
        yield Worker(line, os_pid, pid, group_of(os_pid))


def group_of(os_pid: int) -> Path:
    """The group that a process is in."""
    return ROOT / Path(f"/proc/{os_pid}/cgroup").read_text().strip().removeprefix("0::/")


def unit_group(unit: str = UNIT) -> Path:
    return ROOT / show("ControlGroup", unit).lstrip("/")


def workers_groups(unit: str = UNIT) -> list[str]:
    """The names of the groups of workers."""
    return sorted(each.name for each in unit_group(unit).glob("worker-*"))


def members(group: Path) -> list[int]:
    return [int(each) for each in (group / "cgroup.procs").read_text().split()]


def read(group: Path, name: str) -> str:
    return (group / name).read_text().strip()


def count(group: Path, name: str, key: str) -> int:
    """A number of a file with a key in each line."""
    return next(int(line.split()[1]) for line in read(group, name).splitlines() if line.split()[0] == key)


def reason_of(pid: str, unit: str = UNIT) -> str:
    """Why a worker has ended, by the journal; waits until it says so."""

    def ended() -> list[str]:
        entries = journal("--unit", unit, f"WSRELAY_PID={pid}")
        return [entry["WSRELAY_REASON"] for entry in entries if "WSRELAY_REASON" in entry]

    return str(wait_until(ended, f"the end of {pid}")[0])
