"""Sweeping: what a dead worker leaves behind is found by its parent, wherever it moved (S16)."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.waiting import TIMEOUT

SCRIPT = """
import os, signal, sys
from wsrelay.kernel.shell.children import Orphans, become_subreaper

become_subreaper()
stranger = os.fork()  # there before the sweeper, as what a script has started before `exec wsrelay run`
if stranger == 0:
    os.setsid()
    signal.pause()
orphans = Orphans(set, lambda group: False)
reader, writer = os.pipe()
worker = os.fork()
if worker == 0:
    os.setsid()
    for moves in (True, False):
        ghost = os.fork()
        if ghost == 0:
            if moves:
                os.setsid()
            os.write(writer, b"%d " % os.getpid())
            signal.pause()
    signal.pause()
os.close(writer)
ghosts = set()
while len(ghosts) < 2:
    ghosts |= set(map(int, os.read(reader, 100).split()))
os.kill(worker, signal.SIGKILL)
os.waitpid(worker, 0)
found = orphans.sweep(quick=sys.argv[1] == "quick")
assert {child.os_pid for child in found} == ghosts, (found, ghosts)
for child in found:
    os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
    orphans.reap(child)
assert orphans.sweep() == []
os.kill(stranger, signal.SIGKILL)
os.waitpid(stranger, 0)
print("swept")
"""


@pytest.mark.parametrize("how", ["quick", "thorough"])
def test_a_sweep_finds_what_has_moved_to_another_session(how: str) -> None:  # S2, S16
    command = [sys.executable, "-c", SCRIPT, how]
    swept = subprocess.run(command, check=False, capture_output=True, text=True, timeout=3 * TIMEOUT)
    assert (swept.stdout, swept.returncode) == ("swept\n", 0), swept.stderr
