"""Signs that a worker may be over a limit by now, which cost next to nothing to read: how many tasks the machine has, and how
much room the file system of the private temporary folders.

They are of the whole machine, and so they prove nothing: who is told of one has to look. Decides nothing but that.
"""

from __future__ import annotations

import contextlib
import os

from .proc import tasks_of_machine

_NEVER = float("inf")


class Alarms:
    """What has changed since the last look."""

    def __init__(self, folder: str) -> None:
        """`folder` is that of all private temporary folders; empty if there is none."""
        self._folder = folder
        self._processes = self._disk = _NEVER
        self._tasks = self._free = 0

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
            self._tasks = tasks_of_machine()
        if self._disk < _NEVER:
            self._free = self._free_bytes()

    def ring(self) -> bool:
        """Whether one worker alone may have gone over its limit since the last look."""
        if self._processes < _NEVER and tasks_of_machine() - self._tasks >= self._processes:
            return True
        return self._disk < _NEVER and self._free - self._free_bytes() >= self._disk

    def _free_bytes(self) -> int:
        """What is free on the file system, what is not written out yet taken off."""
        with contextlib.suppress(OSError):
            found = os.statvfs(self._folder)
            return found.f_bfree * found.f_frsize
        return self._free
