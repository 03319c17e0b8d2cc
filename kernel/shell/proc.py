"""What the kernel tells of another process. proc(5).

psutil tells most of it too, with more reads: 60 µs for what `read_stat` does in 14 µs, and that is asked of every process of
the machine.
"""

from __future__ import annotations

import os
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")
_CPU_LIMIT = b"Max cpu time"


class Stat(NamedTuple):
    """One process, perhaps dead and not yet reaped."""

    parent: int
    group: int
    session: int
    resident: int
    """Bytes."""


def every_process() -> list[int]:
    """The numbers of all processes. Raises OSError without a descriptor to spare."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def read_session(number: int) -> int:
    """Return the session of the process with this number, 0 if there is none or it is not told. Takes half a microsecond."""
    try:
        return os.getsid(number)
    except OSError:
        return 0


def read_stat(name: str | int) -> Stat | None:
    """Return what is known of the process with this number, None if there is none."""
    text = _read(name, "stat")
    if not text:
        return None
    fields = text[text.rindex(b")") + 2 :].split(maxsplit=22)
    return Stat(int(fields[1]), int(fields[2]), int(fields[3]), int(fields[21]) * _PAGE)


def read_cpu_limit(os_pid: int) -> int | None:
    """Return a process's soft limit on CPU time in seconds; None if it has none, or there is no such process. The process
    may be dead. (prlimit(2) tells it too, but to fewer.)"""
    for line in _read(os_pid, "limits").splitlines():
        if line.startswith(_CPU_LIMIT):
            soft = line[len(_CPU_LIMIT) :].split()[0]
            return int(soft) if soft.isdigit() else None
    return None


def _read(name: str | int, what: str) -> bytes:
    """The content of a file of a process, empty if there is none."""
    try:
        descriptor = os.open(f"/proc/{name}/{what}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
