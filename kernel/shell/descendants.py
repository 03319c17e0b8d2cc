"""Stops a worker with all its descendants, so that none can fork while they are killed.

SIGSTOP and not SIGKILL: the children of a killed process have another parent at once, and a worker that forks without end would
be ahead of who looks for them. A stopped one forks no more, so those that are not stopped yet become fewer with each look.

The journal has none of it: it knows our children by their numbers, and these are their children, reached through a pidfd.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from .proc import Stat, read_stat

TIMEOUT = 0.5
"""Seconds that this may take; it holds the supervisor up."""


def stop_descendants(os_pid: int) -> int:
    """SIGSTOP to the child `os_pid` of ours and to its descendants, until a look finds none that runs. Returns how many."""
    deadline = time.monotonic() + TIMEOUT
    stopped: set[tuple[int, int]] = set()
    while time.monotonic() < deadline:
        new = [(member, stat) for member, stat in _tree(os_pid).items() if (member, stat.started) not in stopped]
        if not new:
            break
        for member, stat in new:
            stopped.add((member, stat.started))
            _stop(member, stat)
    return len(stopped)


def _tree(os_pid: int) -> dict[int, Stat]:
    found = {}
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := read_stat(name)):
            found[int(name)] = stat
            children.setdefault(stat.parent, []).append(int(name))
    tree = [os_pid]
    for member in tree:
        tree += children.get(member, ())
    return {member: found[member] for member in tree if member in found}


def _stop(os_pid: int, stat: Stat) -> None:
    """SIGSTOP through a pidfd, if that is of the process that was looked at (S2)."""
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(os_pid)
        try:
            now = read_stat(os_pid)
            if now is not None and now.started == stat.started:
                signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
        finally:
            os.close(pidfd)
