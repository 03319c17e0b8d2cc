"""How much memory some processes have together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil


def memory_of(os_pids: Iterable[int]) -> int:
    """Return the bytes that these processes have resident. What several share counts once.

    That is the RSS of one process, and of several the sum of their PSS, which costs a hundred times as much to know.
    """
    processes, total = [], 0
    for os_pid in os_pids:
        with contextlib.suppress(psutil.Error):
            processes.append(psutil.Process(os_pid))
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            total += process.memory_info().rss if len(processes) == 1 else _proportional(process)
    return total


def _proportional(process: psutil.Process) -> int:
    try:
        proportional: int = process.memory_full_info().pss
    except psutil.AccessDenied:  # of another user, and we may not trace: then what it shares counts for each
        proportional = process.memory_info().rss
    return proportional
