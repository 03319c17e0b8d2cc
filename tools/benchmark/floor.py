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
        # Without a warm-up, so that all that is spent is spent on messages that are counted.
        watched = on_the_way(
            server, lambda: load(server, "closed", path, limit=60, seconds=SECONDS, warm_up=0.0, **LOAD)
        )
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
            for os_pid, (label, _) in watched.items()
        }
    title = "echo {size} B, {connections} connections × {in_flight} in flight".format(**LOAD)
    return {
        "title": title,
        "messages": found["messages"],
        "commit": conditions()["commit"],
        "processes": processes,
        "cpu": dict(watched.values()),
    }


def on_the_way(server: Server, make_load: Callable[[], dict[str, Any]]) -> dict[int, tuple[str, dict[str, float]]]:
    """The processes that a message passes: what each is, and its `user` and `system` microseconds for a message.

    They are the gateway, and the other one that a load keeps busy.
    """
    make_load()
    before = _cpu(server)
    messages = make_load()["messages"]
    used = {
        os_pid: {
            kind: (spent - before.get(os_pid, {}).get(kind, 0.0)) / messages * 1e6 for kind, spent in times.items()
        }
        for os_pid, times in _cpu(server).items()
    }
    [gateway] = [one.pid for one in server.processes() if "wsrelay.gateway.shell.main" in one.cmdline()]
    others = used.keys() - {gateway}
    worker = max(others, key=lambda os_pid: sum(used[os_pid].values()))
    return {gateway: ("gateway", used[gateway]), worker: ("worker", used[worker])}


def _cpu(server: Server) -> dict[int, dict[str, float]]:
    found = {}
    for process in server.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            found[process.pid] = {"user": float(times.user), "system": float(times.system)}
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
    spent = "\n".join(
        f"{label}: {times['user']:.1f} µs in the program, {times['system']:.1f} µs in the kernel, for a message"
        for label, times in document["cpu"].items()
    )
    return f"{document['title']}, {document['messages']:,} messages\n\n{made}\n\n{spent} (without strace)"
