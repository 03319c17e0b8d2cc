"""Where the time goes: a profile by function of the gateway and of a worker, sampled with py-spy while a fixed load runs.

Samples are left out in which a process waits for something to do: `WAITING`. Those in the event loop itself, which is no Python,
cannot be told from its wait, and are left out with it. A system call counts for the function that makes it. Sampling stops
a process for a moment, each time, and so says nothing about rates.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import floor
from .load.generator import load
from .peers.registry import PEERS
from .report.text import Table, conditions

SAMPLES_PER_SECOND = 400
SECONDS = 15
WAITING = ("Runner.run", "Poller.poll", "LogWriter._write_lines")
"""What is innermost while a gateway, or a worker, waits."""
FUNCTIONS = 18
"""Functions of each process that are told."""


def profile() -> dict[str, Any]:
    """Sample both processes under the load of the case `echo`. Raises RuntimeError without py-spy."""
    sampler = Path(sys.executable).parent / "py-spy"
    if not sampler.exists():
        raise RuntimeError("the profile is sampled with py-spy, which is not installed: 'tools/bench --install-peers'")
    with (
        PEERS["wsrelay"].start("wsrelay") as server,
        tempfile.TemporaryDirectory(prefix="wsrelay-bench-") as name,
        contextlib.ExitStack() as stack,
    ):
        path = server.path("echo")
        watched = floor.on_the_way(
            server, lambda: load(server, "closed", path, limit=60, seconds=1.0, warm_up=0.0, **floor.LOAD)
        )
        outputs = {label: Path(name, label) for label, _ in watched.values()}
        samplers = [
            stack.enter_context(_sample(sampler, os_pid, outputs[label])) for os_pid, (label, _) in watched.items()
        ]
        # Longer than the sampling, which takes a moment to begin.
        found = load(server, "closed", path, limit=120, seconds=SECONDS + 2.0, warm_up=0.0, **floor.LOAD)
        for process in samplers:
            if process.wait(60):
                said = process.stderr.read().decode(errors="replace").strip() if process.stderr else ""
                raise RuntimeError(f"py-spy could not sample: {said}")
        processes = {label: shares(output.read_text().splitlines()) for label, output in outputs.items()}
    return {
        "title": "echo {size} B, {connections} connections × {in_flight} in flight".format(**floor.LOAD),
        "messages": found["messages"],
        "commit": conditions()["commit"],
        "processes": processes,
    }


@contextlib.contextmanager
def _sample(sampler: Path, os_pid: int, output: Path) -> Any:
    options = ["--function", "--format", "raw", "--rate", str(SAMPLES_PER_SECOND), "--duration", str(SECONDS)]
    process = subprocess.Popen(
        [str(sampler), "record", *options, "--output", str(output), "--pid", str(os_pid)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()  # it has ended, unless the load has failed
        process.communicate()


def shares(lines: Iterable[str]) -> list[dict[str, Any]]:
    """From stacks, outermost function first, and how often each was seen: the functions that were at work most often, without the waits.

    `own` is the share of the samples in which a function was at work itself, `all` of those in which it, or what it called, was.
    """
    own: Counter[str] = Counter()
    everything: Counter[str] = Counter()
    total = 0
    for line in lines:
        stack, _, number = line.rpartition(" ")
        functions, seen = stack.split(";"), int(number)
        if functions[-1].startswith(WAITING):
            continue
        total += seen
        own[functions[-1]] += seen
        everything.update(dict.fromkeys(functions, seen))
    return [
        {"function": name, "own": number / total, "all": everything[name] / total}
        for name, number in own.most_common(FUNCTIONS)
    ]


def table(document: dict[str, Any]) -> str:
    """The profile as people read it."""
    made = Table(["", "function", "own", "with what it calls"])
    for label, functions in document["processes"].items():
        for found in functions:
            made.add(label, found["function"], f"{found['own']:.1%}", f"{found['all']:.1%}")
    return f"{document['title']}, {document['messages']:,} messages\n\n{made}"
