"""Capabilities of Linux, given up for good: by the gateway, and by what runs handlers.

A supervisor that may start hosts as other users, without being root, has them as ambient capabilities (capabilities(7)), which what it
executes inherits. Whoever parses what clients send, or runs a handler, must not have them.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

_VERSION: Final = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3: two words for each set."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


_Sets = ctypes.c_uint32 * 6
"""Twice effective, permitted and inheritable."""


def drop_capabilities() -> None:
    """Give up every capability, ambient ones too, unless this process is root's: for root they come back with the next program. Raises
    OSError. Nothing happens if there are none: a system-call filter may forbid capset."""
    if os.geteuid() == 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = _Header(_VERSION, 0), _Sets()
    if libc.capget(ctypes.byref(header), sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    if any(sets) and libc.capset(ctypes.byref(header), _Sets()) != 0:
        raise OSError(ctypes.get_errno(), "capset")
