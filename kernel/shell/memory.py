"""How much memory some processes have together."""

from __future__ import annotations

import os
from collections.abc import Iterable

from .proc import read_stat

_PROPORTIONAL = b"Pss:"
_MAPS = "smaps_rollup" if os.path.exists("/proc/self/smaps_rollup") else "smaps"
"""Both tell it, one as the sum. proc(5)."""


def memory_of(os_pids: Iterable[int]) -> int:
    """Return the bytes that these processes have resident. What several share counts once.

    That is the RSS of one process, and of several the sum of their PSS, which costs a hundred times as much to know.
    """
    resident = {os_pid: stat.resident for os_pid in os_pids if (stat := read_stat(os_pid)) is not None}
    if len(resident) == 1:
        return sum(resident.values())
    return sum(_proportional(os_pid, alone) for os_pid, alone in resident.items())


def _proportional(os_pid: int, resident: int) -> int:
    """Its PSS in bytes, 0 if it is gone; `resident` where that may not be known."""
    try:
        with open(f"/proc/{os_pid}/{_MAPS}", "rb") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(_PROPORTIONAL))
    except PermissionError:  # of another user, and we may not trace: then what it shares counts for each
        return resident
    except OSError:
        return 0
