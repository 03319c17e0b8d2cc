"""Runs servers, and reads how much CPU and memory their whole trees of processes use."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

START_TIMEOUT = 30.0
STOP_TIMEOUT = 15.0
_SERVING = re.compile(r"serving \S+ on http://127\.0\.0\.1:(\d+)")
PORT_ALONE = re.compile(r"^(\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Server:
    """A running server: the roots of its trees of processes, its port, and the paths it offers, by what they do."""

    name: str
    roots: list[psutil.Process]
    port: int
    paths: Mapping[str, str] = field(default_factory=dict)

    def path(self, purpose: str) -> str:
        """Where it does `purpose` (`echo`, `broadcast`, …)."""
        return self.paths.get(purpose, "/")

    def processes(self) -> list[psutil.Process]:
        """Every process of the server."""
        found: dict[int, psutil.Process] = {}
        for root in self.roots:
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in [root, *root.children(recursive=True)]:
                    found[process.pid] = process
        return list(found.values())

    def runs(self) -> bool:
        """Whether none of its roots has ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return all(root.status() != psutil.STATUS_ZOMBIE for root in self.roots)
        return False

    def end(self) -> None:
        """Ask it to end, without waiting."""
        for root in self.roots:
            with contextlib.suppress(psutil.NoSuchProcess):
                root.terminate()

    def cpu_seconds(self) -> float:
        """CPU that the tree has used so far, that of ended processes included."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory(self) -> int:
        """Bytes of memory of the tree; pages that several processes share are counted once (PSS)."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
        return total


def free_port() -> int:
    """A port that was free just now, for servers that cannot choose one and say which."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def running_wsrelay(
    application: Path,
    paths: Mapping[str, str] | None = None,
    name: str = "wsrelay",
    python: str = sys.executable,
) -> Iterator[Server]:
    """This runtime with an application that serves on any free port. `python` is that of the environment to use."""
    command = [str(Path(python).with_name("wsrelay")), "run", str(application)]
    with running(command, _SERVING) as (process, port):
        yield Server(name, [process], port, paths or {})


@contextlib.contextmanager
def running(
    command: list[str], announcement: re.Pattern[str] | None, port: int = 0, cwd: Path | None = None
) -> Iterator[tuple[psutil.Process, int]]:
    """Run a server whose output announces its port, or that listens on `port`. Raises RuntimeError if it does not."""
    with (
        tempfile.TemporaryFile("w+b") as log,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd, start_new_session=True
        ) as process,
    ):

        def output() -> str:
            log.seek(0)
            return log.read().decode(errors="replace")[-4000:]

        try:
            deadline = time.monotonic() + START_TIMEOUT
            while not (found := _announced(output(), announcement) if announcement else _listens(port)):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server did not start: {' '.join(command)}\n{output()}")
                time.sleep(0.02)
            yield psutil.Process(process.pid), found
            if process.poll() is not None:
                raise RuntimeError(f"the server ended during the measurement: {' '.join(command)}\n{output()}")
        finally:
            _stop(process)


def _announced(output: str, announcement: re.Pattern[str]) -> int:
    match = announcement.search(output)
    return int(match[1]) if match else 0


def _listens(port: int) -> int:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return port
    return 0


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, then see to it that it does, with its children."""
    with contextlib.suppress(psutil.NoSuchProcess):
        tree = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
        _, left = psutil.wait_procs(tree, timeout=2)
        for child in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
