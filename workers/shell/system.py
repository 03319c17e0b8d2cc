"""What Python's library does not offer of the operating system: prctl, and a fork whose child is our sibling.

Linux on x86-64 and aarch64 with the C library's own `syscall`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_TID_ADDRESS = 40

_CLONE_PARENT = 0x00008000
_CLONE_CHILD_CLEARTID = 0x00200000
_CLONE_CHILD_SETTID = 0x01000000
_SYS_CLONE = {"x86_64": 56, "aarch64": 220}

# PyDLL: the GIL is held from fork to after fork.
_libc = ctypes.PyDLL(None, use_errno=True)


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(ctypes.c_int(option), ctypes.c_ulong(argument), *[ctypes.c_ulong(0)] * 3) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def die_with_parent(expected_parent: int) -> None:
    """Be killed when the thread that started this process ends (S40). Ends at once if it has already.

    To be called after any change of user, which clears it.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != expected_parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of descendants whose parents end, so that they can be found (S16)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children() -> list[int]:
    """The os_pids of this process's children, the dead ones too. Reads /proc: `/proc/…/children` is not there in every kernel."""
    me, found = os.getpid(), []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:  # it may be gone
            stat = file.read()
            if int(stat[stat.rindex(b")") + 2 :].split(maxsplit=2)[1]) == me:
                found.append(int(name))
    return found


def renounce_privileges() -> None:
    """No program that is executed from here on gains privileges."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def close_descriptors_except(kept: int) -> None:
    """Close every descriptor but 0, 1, 2 and `kept`."""
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def redirect_stdin() -> None:
    """Read from /dev/null."""
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)


class Forker:
    """Forks children of this process's parent.

    Only for a process with one thread: handlers of `pthread_atfork` do not run. Python's own do. All that can be looked up is
    looked up here, once: what a fork touches, in the child or between two forks, is memory that the child does not share.
    """

    def __init__(self) -> None:
        """Raises OSError where there is no such fork."""
        machine = platform.machine()
        if machine not in _SYS_CLONE:
            raise OSError(f"no fork server for {machine}: expected one of {', '.join(_SYS_CLONE)}")
        flags = _CLONE_PARENT | signal.SIGCHLD
        tid_address = _address_of_tid()
        if tid_address:
            # The C library keeps the thread's id; the kernel writes the child's into the child's copy.
            flags |= _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID
        arguments = [flags, 0, 0, tid_address, 0] if machine == "x86_64" else [flags, 0, 0, 0, tid_address]
        self._call = functools.partial(
            _libc.syscall, ctypes.c_long(_SYS_CLONE[machine]), *map(ctypes.c_ulong, arguments)
        )
        self._before = ctypes.pythonapi.PyOS_BeforeFork
        self._after_in_child = ctypes.pythonapi.PyOS_AfterFork_Child
        self._after_in_parent = ctypes.pythonapi.PyOS_AfterFork_Parent

    def fork_sibling(self) -> int:
        """Fork. Returns 0 in the child, its os_pid here. Raises OSError."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._before()
        os_pid: int = self._call()
        if os_pid == 0:
            self._after_in_child()
            return 0
        number = ctypes.get_errno()
        self._after_in_parent()
        if os_pid < 0:
            raise OSError(number, os.strerror(number))
        return os_pid

    def rehearse(self) -> None:
        """Do what surrounds a fork, in this process, as if it were the child."""
        self._before()
        self._after_in_child()


def _address_of_tid() -> int:
    """Where the C library keeps this thread's id; 0 if the kernel does not tell."""
    address = ctypes.c_void_p()
    try:
        _prctl(_PR_GET_TID_ADDRESS, ctypes.addressof(address))
    except OSError:
        return 0
    return address.value or 0
