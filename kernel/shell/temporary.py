"""Private temporary folders: one for each worker whose host wants one, removed at its end, whatever that was.

All are in one folder of this boot, which only we can write to: `base/NUMBER`, mode 0700, of the user that the worker runs as. The
supervisor makes and removes them; whatever is left when it ends, the guardian removes. Removal is done by a thread: a worker may
leave a million files. Who wrote them is hostile, so no link is followed, however deep the folders are. A supervisor that is not root, and
may change user, does it as the user whose folder it is.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import stat
import tempfile
from collections.abc import Iterable

from ..wire.configuration import HostConfiguration, Identity
from .folder_lock import lock
from .owners import acting_as

_TRIES = 20


def make_base(hosts: Iterable[HostConfiguration]) -> str:
    """Make this boot's folder if a host wants private ones, and return its path, else an empty text. Raises OSError."""
    wanting = [host for host in hosts if host.private_tmp]
    if not wanting:
        return ""
    base = tempfile.mkdtemp(prefix="wsrelay-")
    mode = 0o711  # workers of other users find theirs, and cannot list the others
    if os.geteuid() != 0 and any(host.user is not None for host in wanting):
        mode = 0o1731  # by our group we make folders there as those users; the sticky bit keeps one from another's
    os.chmod(base, mode)
    return base


class TemporaryFolders:
    """The folders of the live workers."""

    def __init__(self, base: str) -> None:
        """`base` is of `make_base`; empty if no host wants any."""
        self.base = base
        self._owned: set[int] = set()
        self._remover: concurrent.futures.ThreadPoolExecutor | None = None
        self._lock = lock(base) if base else None  # a runtime may go for weeks without making a worker

    def make(self, number: int, identity: Identity | None) -> None:
        """Make a worker's folder. Raises OSError."""
        path = self.path(number)
        with acting_as(os.geteuid() if identity is None else identity.uid):
            os.mkdir(path, 0o700)
        self._owned.add(number)
        if identity is not None and os.geteuid() == 0:
            os.chown(path, identity.uid, identity.gid, follow_symlinks=False)

    def path(self, number: int) -> str:
        """Where a worker's folder is."""
        return f"{self.base}/{number}"

    def remove(self, number: int) -> None:
        """Remove a worker's folder soon; it and its descendants are dead, or dying."""
        if number not in self._owned:
            return
        self._owned.discard(number)
        if self._remover is None:
            self._remover = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="wsrelay-temporary")
        self._remover.submit(remove_tree, self.path(number), self.base)

    def close(self) -> None:
        """Remove all that is left; everybody is dead."""
        if self._remover is not None:
            self._remover.shutdown(wait=True, cancel_futures=True)
        remove_base(self.base)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_base(base: str) -> None:
    """Remove this boot's folder with all that is in it; nothing happens if it is gone."""
    if base:
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):
                for name in os.listdir(base):
                    remove_tree(f"{base}/{name}", base)
            try:
                os.rmdir(base)
            except FileNotFoundError:
                return
            except OSError:
                continue


def remove_tree(path: str, base: str) -> None:
    """Remove a folder with all that is in it. What somebody still writes there may stay, in `base`.

    Each folder inside is first moved to `base`, where nobody but us can exchange it for a link; so no path grows long, and
    nothing recurses.
    """
    with contextlib.suppress(OSError), acting_as(os.lstat(path).st_uid):
        _remove_tree(path, base)


def _remove_tree(path: str, base: str) -> None:
    pending, moved = [path], 0
    while pending:
        current = pending.pop()
        with contextlib.suppress(OSError):
            if not stat.S_ISDIR(os.lstat(current).st_mode):
                os.unlink(current)
                continue
            os.chmod(current, 0o700)  # it stands in `base`, and is no link
            with os.scandir(current) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        if not entry.is_dir(follow_symlinks=False):
                            os.unlink(entry.path)
                            continue
                        if os.geteuid() != 0:  # moving a folder writes to it
                            os.chmod(entry.path, 0o700)
                        target = f"{base}/.{os.path.basename(path).lstrip('.')}-{moved}"
                        moved += 1
                        os.rename(entry.path, target)
                        pending.append(target)
            os.rmdir(current)
