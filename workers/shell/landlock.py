"""Landlock: this process gives up access to most of the file system, for good, and so do all that it starts. landlock(7).

Owns the three system calls, which the C library does not have, and what the runtime itself needs to read. What a host asks for,
and that this kernel can do it, has been checked by the supervisor.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable, Iterator

from ...kernel.wire.configuration import Sandbox

_SYS_CREATE_RULESET, _SYS_ADD_RULE, _SYS_RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_ALL_OF_ABI_1 = (1 << 13) - 1
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_SCOPE_SIGNAL = 1 << 1

_SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime", "/etc/ssl",
    "/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/passwd", "/etc/group",
    "/dev/urandom", "/dev/random", "/dev/zero",
)  # fmt: skip
"""What programs of the C library read at their start and for names; it holds no secrets."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def restrict(
    sandbox: Sandbox, sources: Iterable[str] = (), *, readable: Iterable[str] = (), writable: Iterable[str] = ()
) -> None:
    """Keep to the sandbox from here on. `sources` are those of the host's entries, `readable` and `writable` further folders. The
    process has renounced privileges. Raises OSError."""
    abi = _call(_SYS_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_CREATE_RULESET_VERSION))
    handled = _handled(abi) if sandbox.restricts_files else 0
    # struct landlock_ruleset_attr: handled_access_fs, handled_access_net (ABI 4), scoped (ABI 6)
    scoped = 0 if sandbox.signals else _SCOPE_SIGNAL
    attributes = struct.pack("=QQQ", handled, 0, scoped)[: 24 if scoped else 8]
    ruleset = _call(
        _SYS_CREATE_RULESET, ctypes.c_char_p(attributes), ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
    )
    try:
        if handled:
            for path in dict.fromkeys(_needed(sources)):
                _allow(ruleset, path, _READ, optional=True)
            _allow(ruleset, os.devnull, _READ_FILE | _WRITE_FILE | (_TRUNCATE & handled), optional=False)
            for path in (*(sandbox.read or ()), *readable):
                _allow(ruleset, path, _READ, optional=False)
            for path in (*(sandbox.write or ()), *writable):
                _allow(ruleset, path, handled, optional=False)
        _call(_SYS_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _handled(abi: int) -> int:
    """The rights that this kernel knows: what is not handled is not restricted."""
    return (
        _ALL_OF_ABI_1 | (_REFER if abi >= 2 else 0) | (_TRUNCATE if abi >= 3 else 0) | (_IOCTL_DEV if abi >= 5 else 0)
    )


def _needed(sources: Iterable[str]) -> Iterator[str]:
    """What the Python, the library and the application are read from."""
    yield from _SYSTEM
    yield from (sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.realpath(sys.executable))
    yield from (os.path.abspath(folder) for folder in sys.path)
    yield os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 2))  # an editable installation
    for source in sources:
        if source.startswith("file://"):
            yield os.path.dirname(source.removeprefix("file://"))


def _allow(ruleset: int, path: str, access: int, *, optional: bool) -> None:
    """Allow `access` to a file, or to a folder with all below it. What is `optional` may not be there."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        if optional:
            return
        raise
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _OF_FILES
        # struct landlock_path_beneath_attr: packed
        attributes = ctypes.c_char_p(struct.pack("=Qi", access, descriptor))
        _call(_SYS_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_RULE_PATH_BENEATH), attributes, ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock: {os.strerror(error)}")
    return result
