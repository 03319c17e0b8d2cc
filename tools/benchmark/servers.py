"""Starts and stops what is measured, and reads how much CPU it has used."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

APPLICATION = Path(__file__).parent / "application"
START_TIMEOUT = 30.0
_SERVING = re.compile(r"serving \S+ on http://127\.0\.0\.1:(\d+)")


@dataclass(frozen=True)
class Server:
    """A running server: its root process and where it echoes."""

    name: str
    root: psutil.Process
    port: int
    path: str

    def cpu_seconds(self) -> float:
        """CPU that the whole tree of processes has used so far."""
        total = 0.0
        for process in [self.root, *self.root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total


@contextlib.contextmanager
def wsrelay(path: str, name: str = "wsrelay") -> Iterator[Server]:
    """This runtime, with the benchmark's own application."""
    command = [str(Path(sys.executable).with_name("wsrelay")), "run", str(APPLICATION)]
    with _running(command, _SERVING) as (process, port):
        yield Server(name, process, port, path)


@contextlib.contextmanager
def uvicorn(loop: str, library: str) -> Iterator[Server]:
    """uvicorn in one process, with h11 and this event loop and WebSocket library."""
    command = [sys.executable, "-m", "benchmark.peer_uvicorn", loop, library]
    with _running(command, re.compile(r"(\d+)\n")) as (process, port):
        yield Server(f"uvicorn {loop} + {library}", process, port, "/")


@contextlib.contextmanager
def _running(command: list[str], announcement: re.Pattern[str]) -> Iterator[tuple[psutil.Process, int]]:
    """Run a server whose output announces its port."""
    with tempfile.TemporaryFile("w+b") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:

        def output() -> str:
            log.seek(0)
            return log.read().decode(errors="replace")

        try:
            deadline = time.monotonic() + START_TIMEOUT
            while not (match := announcement.search(output())):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server did not start: {' '.join(command)}\n{output()}")
                time.sleep(0.02)
            yield psutil.Process(process.pid), int(match[1])
            if process.poll() is not None:
                raise RuntimeError(f"the server ended during the measurement: {' '.join(command)}\n{output()}")
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
