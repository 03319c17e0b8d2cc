"""Signs that a worker may be over a limit by now, which cost next to nothing to read: how many processes and threads the
machine has started, and how much room the file system of the private temporary folders has.

They are of the whole machine, and so they prove nothing: who is told of one has to look. Those that end and what is removed are not
set off against them, or the corpses of one worker would hide what the next one does. Decides nothing but that.
"""

from __future__ import annotations

import contextlib
import os

from .proc import last_task_started

_NEVER = float("inf")


class Alarms:
    """What has changed since the last look."""

    def __init__(self, folder: str) -> None:
        """`folder` is that of all private temporary folders; empty if there is none."""
        self._folder = folder
        self._processes = self._disk = _NEVER
        self._last = self._free = 0

    @property
    def are_set(self) -> bool:
        """Whether anything is limited that has a sign."""
        return min(self._processes, self._disk) < _NEVER

    def set(self, processes: int | None, disk: int | None) -> None:
        """The least limits that anybody has, of OS processes and of bytes; None for none."""
        self._processes = _NEVER if processes is None else processes
        self._disk = _NEVER if disk is None or not self._folder else disk

    def note(self) -> None:
        """Somebody looks now: what has changed until then is no sign any more."""
        if self._processes < _NEVER:
            self._last = last_task_started()
        if self._disk < _NEVER:
            self._free = self._free_bytes()

    def ring(self) -> bool:
        """Whether one worker alone may have gone over its limit since the last look."""
        if self._processes < _NEVER:
            last = last_task_started()
            if last - self._last >= self._processes or last < self._last:
                return True
        if self._disk < _NEVER:
            free = self._free_bytes()
            self._free = max(self._free, free)
            return self._free - free >= self._disk
        return False

    def _free_bytes(self) -> int:
        """What is free on the file system, what is not written out yet taken off."""
        with contextlib.suppress(OSError):
            found = os.statvfs(self._folder)
            return found.f_bfree * found.f_frsize
        return self._free
