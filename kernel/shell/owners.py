"""Acts on files as their owner: for the temporary folders of workers that run as another user.

Who may change user needs no capability over files (CAP_CHOWN, CAP_DAC_OVERRIDE) then, and no trick of the owner's leads to what he
could not touch himself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

_NOBODY = ctypes.c_uint32(-1)
"""No user: setfsuid(2) changes nothing, and tells who it is."""


@contextlib.contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """What this thread does to files in the block, it does as `uid`. Root stays root, who may do it all the same. Raises
    PermissionError. Nothing else may run in the block: no other turn of a loop."""
    own = os.geteuid()
    if own in (0, uid):
        yield
        return
    libc = ctypes.CDLL(None)
    libc.setfsuid(ctypes.c_uint32(uid))
    try:
        if libc.setfsuid(_NOBODY) != uid:
            raise PermissionError(f"this process may not act as the user {uid}")
        yield
    finally:
        libc.setfsuid(ctypes.c_uint32(own))
