"""Keeps a folder, and all that is in it, from those who remove what is old.

systemd-tmpfiles(8) takes away what nobody has touched for some days, unless the folder is locked, as tmpfiles.d(5) says.
"""

from __future__ import annotations

import contextlib
import fcntl
import os


def lock(folder: str | os.PathLike[str], *, wait: bool = True) -> int | None:
    """Share a lock of it with whoever else has one. Returns the descriptor that holds it; None if the folder cannot be opened. Without
    `wait` there is no lock if somebody has one alone just now."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | (0 if wait else fcntl.LOCK_NB))
    return descriptor
