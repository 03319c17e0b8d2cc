"""Child processes: starting, watching, killing, reaping, and sweeping what the dead leave behind.

Everything here rests on one fact: a process id cannot be reused before its parent has reaped it. So a child is signalled
through its pidfd, or by number while it is unreaped, and never otherwise (S2).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from ..core.endings import WaitStatus
from ..wire import journal_records as j
from ..wire.journal import write
from .proc import every_process, read_cpu_limit, read_session, read_stat

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Make orphaned descendants our children, whatever session or group they moved to (S16), and their statuses ours: a
    parent that ignores SIGCHLD hands that on, and then the kernel keeps no status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def start_python(module: str, descriptor: int, environment: Mapping[str, str] | None = None, *more: str) -> int:
    """Execute `python -m module DESCRIPTOR OUR_OS_PID MORE…` afresh, in a session of its own, and return its os_pid.

    `descriptor` keeps its number; everything else that is open here is close-on-exec. `environment` has its variables, None for
    ours. Raises OSError.
    """
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # -P: a module in the current folder must not stand in for one of the standard library.
        arguments = [sys.executable, "-P", "-m", module, str(descriptor), str(os.getpid()), *more]
        # A dup2 onto itself clears close-on-exec in the child alone: posix_spawn_file_actions_adddup2, glibc 2.29.
        files = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, descriptor, descriptor)]
        variables = dict(os.environ if environment is None else environment)
        return os.posix_spawn(sys.executable, arguments, variables, file_actions=files, setsid=True)
    finally:
        os.close(null)


class Child:
    """One unreaped child of ours."""

    def __init__(self, os_pid: int) -> None:
        """Raises ProcessLookupError or ChildProcessError if `os_pid` is not an unreaped child of this process."""
        self.os_pid = os_pid
        self.pidfd = os.pidfd_open(os_pid)
        try:
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except BaseException:
            os.close(self.pidfd)
            raise
        write(j.ChildKnown(os_pid))

    def status(self) -> WaitStatus | None:
        """The wait status once it is dead, without reaping it; None while it lives."""
        result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if result is None:
            return None
        if result.si_code == os.CLD_EXITED:
            return WaitStatus(result.si_status)
        return WaitStatus(None, result.si_status, read_cpu_limit(self.os_pid))

    def kill(self) -> None:
        """SIGKILL; nothing happens if it is already dead."""
        write(j.Signalled(self.os_pid, signal.SIGKILL, group=False))
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def kill_group(self) -> None:
        """SIGKILL to the process group that it leads, which cannot be another's while it is unreaped."""
        write(j.Signalled(self.os_pid, signal.SIGKILL, group=True))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.os_pid, signal.SIGKILL)

    def reap(self) -> None:
        """Let the operating system forget it. The numbers are invalid from here on."""
        write(j.Reaped(self.os_pid))  # before the number can be another's
        os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        os.close(self.pidfd)


class Relative(NamedTuple):
    """A child of this process, perhaps dead."""

    os_pid: int
    group: int
    session: int


def own_children(known: Collection[int] = (), foreign: Collection[int] = ()) -> Iterator[Relative]:
    """Yield every child of this process that is not `known` nor in a `foreign` session, the dead ones too. Raises OSError
    without a descriptor to spare.

    Reads /proc, because `/proc/…/children` is not there in every kernel and may miss some.
    """
    me = os.getpid()
    for number in every_process():
        if number not in known and not (foreign and read_session(number) in foreign):
            stat = read_stat(number)
            if stat is not None and stat.parent == me:
                yield Relative(number, stat.group, stat.session)


class Orphans:
    """Finds and kills the descendants that dead workers leave behind.

    Not every child that we have not started is one. `exec wsrelay run` in a script makes us the parent of what that had
    started in the background, and the orphans of those come to us too: nobody of the runtime may be touched but its own (S2).
    They were there before us, or are in our own session, which all that we start leaves at once.
    """

    AT_ONCE = 256
    """Orphans that are watched at a time, with a descriptor each. Further ones are killed too, and reaped later."""

    def __init__(self, known: Callable[[], set[int]], is_newborn_group: Callable[[int], bool]) -> None:
        """`known()` gives the os_pids of our own children; `is_newborn_group(process group)` tells the groups of live hosts,
        where workers stay until they are started."""
        self._known = known
        self._is_newborn_group = is_newborn_group
        self._session = os.getsid(0)
        self._foreign = set(map(read_session, every_process()))
        """Sessions that were there before us. No descendant of a worker is in one: a session is inherited, or made by who
        moves to it. Unless it has ended since, and its number is another's."""
        self._strangers = {child.os_pid for child in own_children()}  # never reaped by us, so never another's number
        self.dying: dict[int, Child] = {}

    def sweep(self, *, quick: bool = False) -> list[Child]:
        """SIGKILL every child of ours that nobody knows. Returns those found now; their own children become ours when
        they die, so sweep again then.

        A `quick` sweep takes a tenth of the time, because it does not look at processes of foreign sessions. So it may miss
        who has the number of such a session by now.
        """
        found = []
        known = self._known() | self._strangers | self.dying.keys()
        for relative in own_children(known, self._foreign if quick else ()):
            if self._is_newborn_group(relative.group) or relative.session == self._session:
                continue
            if len(self.dying) < self.AT_ONCE:
                found.append(self.take(relative.os_pid))
            else:
                write(j.ChildKnown(relative.os_pid))
                write(j.Signalled(relative.os_pid, signal.SIGKILL, group=False))
                os.kill(relative.os_pid, signal.SIGKILL)  # it is not reaped, so the number is its own
        return found

    def take(self, os_pid: int) -> Child:
        """SIGKILL this child of ours; it is watched from here on. Raises OSError if it is no child of ours."""
        child = self.dying[os_pid] = Child(os_pid)
        child.kill()
        return child

    def reap(self, child: Child) -> None:
        """An orphan is dead."""
        del self.dying[child.os_pid]
        child.reap()
