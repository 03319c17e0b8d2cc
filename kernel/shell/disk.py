"""Measures a private temporary folder: what its files take, and what deleted files take that its processes still have open.

Follows no link, and looks at a bounded number of files in a turn. Decides nothing.

Who wrote the folder is hostile. So it walks by descriptors and not by paths: no path is too long, and a look costs the same at any
depth. It has `DESCRIPTORS` open at most, those of the deepest folders it is in; the way back up is `..`, and has to lead to where
it came from. What cannot be looked at counts for more than any limit.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .owners import acting_as
from .proc import files_without_name

SLICE = 100
"""Files looked at in one turn."""
DESCRIPTORS = 16
"""Open at a time, at most; one more while a folder is listed, or left."""
_BLOCK = 512
"""Bytes of st_blocks, stat(2)."""
_ENTRY = 1 << 10
"""Bytes that a name counts for besides the file's content: a million empty files are not nothing, nor are a million links."""
_HIDDEN = 1 << 50
"""Bytes that counts for what cannot be looked at: a limit that this evades is none."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CLOSED = -1


class _NothingToSpareError(Exception):
    """We have no descriptor or no memory left: that says nothing of the folder."""


@dataclass(slots=True)
class _Level:
    """A folder that the walk is in."""

    descriptor: int
    identity: tuple[int, int]
    folders: list[str] = field(default_factory=list)
    """Names of the folders in it that are still to be looked at."""

    def close(self) -> None:
        if self.descriptor != _CLOSED:
            os.close(self.descriptor)
            self.descriptor = _CLOSED


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
        without_name = itertools.chain.from_iterable(map(files_without_name, os_pids))
        deleted = (status for status in without_name if status.st_dev == folder.st_dev)
        with contextlib.suppress(_NothingToSpareError):
            for statuses, uid in ((self._statuses(), folder.st_uid), (deleted, os.geteuid())):
                while self._count(statuses, uid) == SLICE:
                    yield

    def _count(self, statuses: Iterator[os.stat_result], uid: int) -> int:
        """Look at some files, as their owner. Returns how many there were."""
        with acting_as(uid):
            some = list(itertools.islice(statuses, SLICE))
        for status in some:
            file = (status.st_dev, status.st_ino)
            new = file not in self._seen
            if new or status.st_nlink > 0:
                self.used += _ENTRY
            if new:
                self.used += status.st_blocks * _BLOCK
                if status.st_nlink != 1 and not stat.S_ISDIR(status.st_mode):
                    self._seen.add(file)
        return len(some)

    def _statuses(self) -> Iterator[os.stat_result]:
        """Every file and folder in it. Raises _NothingToSpareError."""
        way: list[_Level] = []
        try:
            yield from self._enter(way, self._folder)
            while way:
                if way[-1].folders:
                    yield from self._enter(way, way[-1].folders.pop())
                else:
                    self._leave(way)
        except OSError as problem:
            self._hide(problem)
        finally:
            for level in way:
                level.close()

    def _enter(self, way: list[_Level], name: str) -> Iterator[os.stat_result]:
        """Look at a folder in the last one of the way, and let the way end there. Raises OSError."""
        try:
            descriptor = os.open(name, _FOLDER, dir_fd=way[-1].descriptor if way else None)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as problem:
            self._hide(problem)
            return
        level = _Level(descriptor, _identity(descriptor))
        way.append(level)
        if len(way) > DESCRIPTORS:
            way[-DESCRIPTORS - 1].close()
        with os.scandir(descriptor) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as problem:
                    self._hide(problem)
                    continue
                if stat.S_ISDIR(status.st_mode):
                    level.folders.append(entry.name)
                yield status

    def _leave(self, way: list[_Level]) -> None:
        """Go back up. Raises OSError."""
        left = way.pop()
        try:
            if way and way[-1].descriptor == _CLOSED:
                way[-1].descriptor = os.open("..", _FOLDER, dir_fd=left.descriptor)
                if _identity(way[-1].descriptor) != way[-1].identity:
                    raise OSError("a folder was moved while the walk was in it")
        finally:
            left.close()

    def _hide(self, problem: OSError) -> None:
        """Something cannot be looked at. Raises _NothingToSpareError if that is our own fault."""
        if problem.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise _NothingToSpareError from problem
        self.used += _HIDDEN


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
