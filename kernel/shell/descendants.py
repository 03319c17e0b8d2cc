"""The descendants of workers: found by what every process says of its parent, and stopped, so that none can fork while they are killed.

SIGSTOP and not SIGKILL: the children of a killed process have another parent at once, and a worker that forks without end would
be ahead of who looks for them. A stopped one forks no more, so those that are not stopped yet become fewer with each look.

The journal has none of it: it knows our children by their numbers, and these are their children, reached through a pidfd.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping

from .proc import Stat, every_process, read_stat

TIMEOUT = 0.5
"""Seconds that this may take; it holds the supervisor up."""


def read_into(found: dict[int, Stat], numbers: Iterable[int]) -> None:
    """Read of these processes; what has ended meanwhile is forgotten."""
    for number in numbers:
        stat = read_stat(number)
        if stat is not None:
            found[number] = stat
        else:
            found.pop(number, None)


def forget_ended(found: dict[int, Stat], numbers: Iterable[int]) -> None:
    """Forget all that are not among `numbers`."""
    for number in found.keys() - set(numbers):
        del found[number]


def trees(found: Mapping[int, Stat], roots: Iterable[int]) -> list[list[int]]:
    """Return each root with its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for number, stat in found.items():
        children.setdefault(stat.parent, []).append(number)
    every = []
    for root in roots:
        tree = [root]
        for member in tree:
            tree += children.get(member, ())
        every.append(tree)
    return every


def stop_descendants(os_pid: int, found: dict[int, Stat]) -> int:
    """SIGSTOP to the child `os_pid` of ours and to its descendants, until a look finds none that runs. Returns how many. `found` is
    what was read of every process, and is kept up to date: further looks read of those that are new."""
    deadline = time.monotonic() + TIMEOUT
    stopped: set[tuple[int, int]] = set()
    while time.monotonic() < deadline:
        [tree] = trees(found, [os_pid])
        there = [(member, found[member]) for member in tree if member in found]
        new = [(member, stat) for member, stat in there if (member, stat.started) not in stopped]
        if not new:
            break
        for member, stat in new:
            stopped.add((member, stat.started))
            _stop(member, stat)
        numbers = every_process()
        forget_ended(found, numbers)
        read_into(found, [number for number in numbers if number not in found])
    return len(stopped)


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
