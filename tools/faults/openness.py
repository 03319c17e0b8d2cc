"""Folders of a test that workers of another user must come to: the kit's own are opened, for others it is said who closes them.

Only root can run workers as another user, so only for root is there anything to do. Changes no folder that the kit has not made.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Mapping
from pathlib import Path

PASS_THROUGH = 0o711
READ = 0o755
EVERYBODYS = 0o777
"""Files in it are made, and removed, by workers of several users."""


def open_to_all(*folders: Path) -> None:
    """Let everybody make and remove files in folders of the kit."""
    for folder in folders:
        folder.chmod(EVERYBODYS)


def open_to_read(folder: Path, files: set[str]) -> None:
    """Let everybody read the copy of an application: its folder, and the files that the kit has written into it."""
    folder.chmod(READ)
    for name in files:
        path = folder / name
        path.chmod(path.stat().st_mode | 0o444)


def check_way(folder: Path, users: Mapping[str, str]) -> None:
    """Check that the user of each host (id to name) may pass through to `folder`. Raises PermissionError that says which folder
    is closed to whom. Users that there are not are left to the runtime to complain of."""
    if os.geteuid() != 0:
        return
    for host, user in users.items():
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            continue
        groups = os.getgrouplist(user, entry.pw_gid)
        for each in reversed((folder, *folder.absolute().parents)):
            if not _lets_through(each, entry.pw_uid, groups):
                raise PermissionError(
                    f"the folder {each} is closed to {user}, whom {host} runs as: its mode is"
                    f" {stat.S_IMODE(each.stat().st_mode):04o}; give a `folder` that {user} may pass through, or none"
                )


def _lets_through(folder: Path, uid: int, groups: list[int]) -> bool:
    status = folder.stat()
    if status.st_uid == uid:
        return bool(status.st_mode & stat.S_IXUSR)
    return bool(status.st_mode & (stat.S_IXGRP if status.st_gid in groups else stat.S_IXOTH)) or uid == 0
