"""What the kernel tells of another process. proc(5).

psutil tells most of it too, with more reads: 60 µs for what `read_stat` does in 14 µs, and that is asked of every process of
the machine.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
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
    threads: int
    started: int
    """In ticks since the boot: with the number, it names a process for good."""


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
    return Stat(
        int(fields[1]), int(fields[2]), int(fields[3]), int(fields[21]) * _PAGE, int(fields[17]), int(fields[19])
    )


def last_task_started() -> int:
    """Return the number of the process or thread that was started last; 0 if it cannot be known. Numbers are given in order, and after
    the largest begin anew. proc_loadavg(5)."""
    try:
        with open("/proc/loadavg", "rb") as file:
            return int(file.read().split()[4])
    except OSError:
        return 0


def shared_memory_of_machine() -> int:
    """Return the bytes of memory that files in it take: of tmpfs, memfd_create(2), shared mappings. 0 if it cannot be known."""
    try:
        with open("/proc/meminfo", "rb") as file:
            return _kilobytes(file.read(), b"Shmem:")
    except OSError:
        return 0


def read_mapped_shared_memory(os_pid: int) -> int:
    """Return the bytes of such files that a process has mapped and resident (RssShmem), 0 if there is none."""
    return _kilobytes(_read(os_pid, "status"), b"RssShmem:")


def files_without_name(os_pid: int) -> Iterator[os.stat_result]:
    """Regular files without a name that a process has open: deleted ones, and those of memfd_create(2). None where we may not look."""
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{os_pid}/fd"):
            with contextlib.suppress(OSError):
                status = os.stat(f"/proc/{os_pid}/fd/{name}")
                if status.st_nlink == 0 and stat.S_ISREG(status.st_mode):
                    yield status


def _kilobytes(text: bytes, name: bytes) -> int:
    _, _, rest = text.partition(b"\n" + name)
    return int(rest.split(maxsplit=1)[0]) << 10 if rest else 0


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
