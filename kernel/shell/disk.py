"""Measures a private temporary folder: what its files take, and what deleted files take that its processes still have open.

Follows no link, and looks at a bounded number of files in a turn. Decides nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterable, Iterator

from .owners import acting_as

SLICE = 100
"""Files looked at in one turn."""
_BLOCK = 512
"""Bytes of st_blocks, stat(2)."""
_ENTRY = 1 << 10
"""Bytes that a file counts for besides its content: a million empty ones are not nothing."""
_HIDDEN = 1 << 50
"""Bytes that a folder counts for that cannot be looked at: a limit that this evades is none."""


class Disk:
    """One look at one folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._seen: set[tuple[int, int]] = set()
        """Files with several names count once."""
        self.used = 0
        """Bytes that were found so far."""

    def look(self, os_pids: Iterable[int]) -> Iterator[None]:
        """Look at the folder, and at what `os_pids` have open; each step is a turn."""
        try:
            folder = os.lstat(self._folder)
        except OSError:
            return
        deleted = (status for os_pid in os_pids for status in _deleted_files(os_pid, folder.st_dev))
        for statuses, uid in ((self._statuses(), folder.st_uid), (deleted, os.geteuid())):
            while self._count(statuses, uid) == SLICE:
                yield

    def _count(self, statuses: Iterator[os.stat_result], uid: int) -> int:
        """Look at some files, as their owner. Returns how many there were."""
        with acting_as(uid):
            some = list(itertools.islice(statuses, SLICE))
        for status in some:
            if (status.st_dev, status.st_ino) not in self._seen:
                if status.st_nlink != 1:
                    self._seen.add((status.st_dev, status.st_ino))
                self.used += status.st_blocks * _BLOCK + _ENTRY
        return len(some)

    def _statuses(self) -> Iterator[os.stat_result]:
        pending = [self._folder]
        while pending:
            try:
                entries = os.scandir(pending.pop())
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:  # too deep, or closed by its owner to itself
                self.used += _HIDDEN
                continue
            with entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        yield entry.stat(follow_symlinks=False)
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)


def _deleted_files(os_pid: int, device: int) -> Iterator[os.stat_result]:
    """Files without a name that a process has open, on the folder's file system. None where we may not look."""
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{os_pid}/fd"):
            with contextlib.suppress(OSError):
                status = os.stat(f"/proc/{os_pid}/fd/{name}")
                if status.st_nlink == 0 and status.st_dev == device and stat.S_ISREG(status.st_mode):
                    yield status
