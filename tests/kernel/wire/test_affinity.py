"""Every thread of a process moves, and what cannot be had changes nothing. In a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest
from wsrelay.kernel.shell.machine import allowed_processors

HERE, THERE = min(allowed_processors()), max(allowed_processors())
PROGRAM = f"""
import os, threading
from wsrelay.kernel.wire.affinity import bind
done = threading.Event()
threads = [threading.Thread(target=done.wait) for _ in range(5)]
os.sched_setaffinity(0, {{{HERE}}})
for thread in threads: thread.start()
def where(): return {{frozenset(os.sched_getaffinity(int(name))) for name in os.listdir("/proc/self/task")}}
for wanted in ({{{THERE}}}, {{8191}}, {{8191, {HERE}}}, ({HERE}, {THERE})):
    bind(wanted)
    print(*map(sorted, where()))
done.set()
"""


@pytest.mark.skipif(HERE == THERE, reason="needs two processors, this machine allows one")
def test_all_threads_move_to_what_can_be_had() -> None:
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert said.splitlines() == [f"[{THERE}]", f"[{THERE}]", f"[{HERE}]", f"[{HERE}, {THERE}]"]
