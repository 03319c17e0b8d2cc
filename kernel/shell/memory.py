"""How much memory some processes have together: what they have resident, and files in memory that they have open."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Generator, Iterable

from .proc import files_without_name, read_mapped_shared_memory, read_stat

SLICE = 100
"""Files looked at in one turn."""
_BLOCK = 512
"""Bytes of st_blocks, stat(2)."""
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


def unmapped_memory(os_pids: Iterable[int]) -> Generator[None, None, int]:
    """Return the bytes of files in memory without a name (memfd_create(2), deleted ones of a tmpfs) that these processes have open,
    beyond what they have mapped of such files, which is resident. Each file counts once. Each step is a turn.

    It is the least that it can be: what is mapped may be of other files.
    """
    members = list(os_pids)
    found: dict[tuple[int, int], int] = {}
    files = itertools.chain.from_iterable(map(files_without_name, members))
    while some := list(itertools.islice(files, SLICE)):
        for status in some:
            if status.st_dev in _devices_in_memory():
                found[status.st_dev, status.st_ino] = status.st_blocks * _BLOCK
        yield
    return max(0, sum(found.values()) - sum(map(read_mapped_shared_memory, members))) if found else 0


@functools.cache
def _devices_in_memory() -> frozenset[int]:
    """Those of memfd_create(2), and of every tmpfs that is mounted. proc_pid_mountinfo(5)"""
    devices = set()
    with contextlib.suppress(OSError):
        descriptor = os.memfd_create("wsrelay", os.MFD_CLOEXEC)
        devices.add(os.fstat(descriptor).st_dev)
        os.close(descriptor)
        with open("/proc/self/mountinfo", errors="replace") as mounts:
            for line in mounts:
                fields, _, kind = line.partition(" - ")
                if kind.startswith("tmpfs "):
                    major, minor = fields.split()[2].split(":")
                    devices.add(os.makedev(int(major), int(minor)))
    return frozenset(devices)
