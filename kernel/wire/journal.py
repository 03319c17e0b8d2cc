"""Writing a journal: each process appends to a file of its own what the checker of the invariants has to know.

A tool for tests. Off unless `WSRELAY_JOURNAL` names a folder; who would write on a hot path asks `ON` once, when it is wired,
and not for each message. One write(2) per record to a file opened with O_APPEND: what was written survives SIGKILL. The file is
opened by the process that writes, after the fork, so that no two share one. The folder must be writable for every user that a
host runs as.

A line is the msgpack array `[time, sequence, record's name, fields…]`: CLOCK_MONOTONIC in nanoseconds, which all processes of a
machine share, and a number that counts up from 1 within the file.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Final

import msgpack

from .journal_records import Opened

VARIABLE: Final = "WSRELAY_JOURNAL"
"""The environment variable that names the folder."""
SUFFIX: Final = ".journal"

_folder = os.environ.get(VARIABLE, "")
ON: Final = bool(_folder)
"""Whether this process keeps a journal. Set at import, for good."""


class Journal:
    """One file, of one process."""

    def __init__(self, folder: str | os.PathLike[str], role: str) -> None:
        """Opens it. Raises OSError if the folder cannot be written to."""
        self._lock = threading.Lock()
        self._sequence = 0
        self.os_pid = os.getpid()
        name = os.path.join(folder, f"{role}-{self.os_pid}-{time.monotonic_ns():x}{SUFFIX}")
        self._file = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.write(Opened(role, self.os_pid))

    def write(self, record: tuple[Any, ...]) -> None:
        """Append a record. Any thread may. Raises OSError if the file cannot be written."""
        with self._lock:
            self._sequence += 1
            line = [time.monotonic_ns(), self._sequence, type(record).__name__, *record]
            data: bytes = msgpack.packb(line, unicode_errors="replace")
            if os.write(self._file, data) != len(data):
                raise OSError("a record of the journal was written in part: the disk is full")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


_role = "process"
_journal: Journal | None = None


def set_role(role: str) -> None:
    """Say what this process is; before its first record."""
    global _role
    _role = role


def write(record: tuple[Any, ...]) -> None:
    """Append a record to this process's journal; nothing happens while journals are off."""
    global _journal
    if not ON:
        return
    if _journal is None:
        _journal = Journal(_folder, _role)
    _journal.write(record)


def _forget_in_child() -> None:
    """A forked child has a file of its own; its parent's it neither writes nor closes: the number may be another's by now."""
    global _journal
    _journal = None


if ON:
    os.register_at_fork(after_in_child=_forget_in_child)
