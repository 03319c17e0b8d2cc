"""The physical floor: system calls and bytes for each message, counted with strace while a fixed load runs.

strace slows what it watches down, so this says nothing about time. It counts what crosses into the kernel, and that is what a
faster program cannot do without: fewer calls come from sending more with each.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from .load.generator import load
from .peers.process import Server
from .peers.registry import PEERS
from .report.text import Table, conditions

CALLS = re.compile(r"^(?:\d+ +)?(?:\d+\.\d+ )?(?P<call>\w+)\(.*\) *= (?P<result>-?\d+)")
RESUMED = re.compile(r"^(?:\d+ +)?<\.\.\. (?P<call>\w+) resumed>.*= (?P<result>-?\d+)")
MOVING = frozenset({"read", "recv", "recvfrom", "recvmsg", "write", "writev", "send", "sendto", "sendmsg"})
LOAD: dict[str, Any] = {"size": 64, "connections": 16, "in_flight": 8}
SECONDS = 3.0


def count() -> dict[str, Any]:
    """Count for this runtime under the load of the case `echo`. Raises RuntimeError without strace."""
    if not shutil.which("strace"):
        raise RuntimeError("the floor is counted with strace, which is not installed: 'tools/bench --install-peers'")
    with PEERS["wsrelay"].start("wsrelay") as server, tempfile.TemporaryDirectory(prefix="wsrelay-bench-") as name:
        folder = Path(name)
        path = server.path("echo")
        watched = _on_the_way(server, lambda: load(server, "closed", path, limit=60, seconds=1.0, warm_up=0.5, **LOAD))
        tracers: list[subprocess.Popen[bytes]] = []
        try:
            for os_pid in watched:
                tracers.append(_attach(os_pid, folder / str(os_pid)))
            found = load(server, "closed", path, limit=120, seconds=SECONDS, warm_up=0.0, **LOAD)
        finally:
            for tracer in tracers:
                tracer.send_signal(signal.SIGINT)
                tracer.wait(20)
        processes = {
            label: _per_message((folder / str(os_pid)).read_text().splitlines(), found["messages"])
            for os_pid, label in watched.items()
        }
    title = "echo {size} B, {connections} connections × {in_flight} in flight".format(**LOAD)
    return {"title": title, "messages": found["messages"], "commit": conditions()["commit"], "processes": processes}


def _on_the_way(server: Server, make_load: Callable[[], object]) -> dict[int, str]:
    """The processes that a message passes, by what they are: the gateway, and the other one that a load keeps busy."""
    make_load()
    before = _cpu(server)
    make_load()
    used = {os_pid: seconds - before.get(os_pid, 0.0) for os_pid, seconds in _cpu(server).items()}
    [gateway] = [one.pid for one in server.processes() if "wsrelay.gateway.shell.main" in one.cmdline()]
    used.pop(gateway)
    return {gateway: "gateway", max(used, key=lambda os_pid: used[os_pid]): "worker"}


def _cpu(server: Server) -> dict[int, float]:
    found = {}
    for process in server.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            found[process.pid] = float(times.user + times.system)
    return found


def _attach(os_pid: int, output: Path) -> subprocess.Popen[bytes]:
    """Trace a process and its threads; returns when strace says that it is attached."""
    command = ["strace", "-f", "-s", "0", "-o", str(output), "-p", str(os_pid)]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = tracer.stderr.readline() if tracer.stderr else b""
    if b"attached" not in said:
        tracer.kill()
        tracer.wait()
        raise RuntimeError(f"strace could not attach: {said.decode(errors='replace').strip()}")
    return tracer


def _per_message(lines: Iterable[str], messages: int) -> dict[str, dict[str, float]]:
    """Calls and bytes for a message, the most frequent first; what is rarer than 1 in 100 is left out."""
    calls: dict[str, int] = {}
    moved: dict[str, int] = {}
    for line in lines:
        match = CALLS.match(line) or RESUMED.match(line)
        if not match:
            continue
        call, result = match["call"], int(match["result"])
        calls[call] = calls.get(call, 0) + 1
        if call in MOVING and result > 0:
            moved[call] = moved.get(call, 0) + result
    return {
        call: {"calls": number / messages, "bytes": moved.get(call, 0) / messages}
        for call, number in sorted(calls.items(), key=lambda item: -item[1])
        if number / messages >= 0.01
    }


def table(document: dict[str, Any]) -> str:
    """The count as people read it."""
    made = Table(["", "system call", "for a message", "bytes for a message"])
    for label, calls in document["processes"].items():
        for call, found in calls.items():
            made.add(label, call, f"{found['calls']:.3f}", f"{found['bytes']:,.0f}" if found["bytes"] else "")
    return f"{document['title']}, {document['messages']:,} messages\n\n{made}"
