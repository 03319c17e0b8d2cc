"""The fork server rehearses what its workers will do: nothing of it may be left, there or in a worker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support.worker_lab import PEER, Lab

PROGRAM = """
import asyncio, gc, json, os, signal, sys, threading
from wsrelay.kernel.wire.errors import ProcessError
from wsrelay.workers import process
from wsrelay.workers.shell import rehearsal, system

def state():
    try:
        process.pid()
        there = True
    except ProcessError:
        there = False
    return {
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "known threads": [thread.name for thread in threading.enumerate()],
        "handlers": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        "running": there,
    }

signal.signal(signal.SIGINT, signal.SIG_IGN)
before = state()
rehearsal.rehearse(system.Forker())
gc.collect()
after = state()
loop = asyncio.get_event_loop_policy().get_event_loop()
json.dump([before, after, loop.is_closed()], sys.stdout)
loop.close()
"""

ACTOR = """
import asyncio
from wsrelay.workers import process

def main():
    loop = asyncio.get_event_loop_policy().get_event_loop()
    process.send(PEER, "loop", loop.run_until_complete(asyncio.sleep(0, "ran")))
    loop.close()
"""


def test_a_rehearsal_leaves_nothing_behind() -> None:
    # Python 3.12 warns who asks for a loop where none was set; that is what the program asks for.
    command = [sys.executable, "-W", "ignore::DeprecationWarning:__main__", "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    before, after, closed = json.loads(done.stdout)
    assert after == before
    assert not closed
    assert done.stderr == ""


def test_a_plain_handler_has_an_event_loop_for_the_asking(tmp_path: Path) -> None:
    with Lab(folder=tmp_path) as lab, lab.actor(f"PEER = {str(PEER)!r}\n{ACTOR}") as worker:
        assert worker.message("loop") == "ran"
        assert worker.end().reason == "normal"
