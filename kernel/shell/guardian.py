"""The guardian: the parent of the supervisor, which outlives it just long enough to leave nothing behind (S40).

`wsrelay run` forks: this process stays what was started, and its child becomes the supervisor. When that dies, however it
dies, its children are killed by the kernel (PR_SET_PDEATHSIG), and every descendant of theirs, stopped ones and those in
sessions of their own included, becomes a child of the guardian, which is the next subreaper above. It kills and reaps them
until there is none, and only then ends, with the supervisor's exit code, or 128 and the number of the signal that ended it.

Until then it does next to nothing: it hands signals on, and the supervisor's notifications to the service manager, and reaps
strangers where it is PID 1. It runs no user code, understands nothing of what it passes on, holds no descriptor but the standard
ones and those of that, and has no thread until it has something to log. The supervisor has a process group of its own, so that
Ctrl-C in a terminal, which goes to a whole group, comes to it once. If the guardian is killed itself, the supervisor sees it
and does the killing, stopped or not: SIGCONT is the signal that it gets then.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import logging
import os
import signal
import time
from collections.abc import Collection

from ..wire import log_writer
from .children import Relative, become_subreaper, own_children
from .systemd.notify import Relay

FORWARDED = (
    signal.SIGABRT, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
"""SIGABRT is what systemd sends when its watchdog gets no sign of life: the supervisor says where it hangs, and ends."""
ENDING = frozenset({signal.SIGINT, signal.SIGTERM})
"""What ends a supervisor that does not listen yet."""
LATER = frozenset({signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})
"""What waits until the supervisor listens: it would be ended by them."""
logger = logging.getLogger("wsrelay")

KILL_TIMEOUT = 10.0
"""Seconds that killed processes have to be dead."""
_LOOK_AGAIN = 0.1
"""Seconds after which the guardian looks for new orphans, though no death was told."""
_PR_SET_PDEATHSIG = 1


class Guarded:
    """What `stand_guard` tells the supervisor."""

    def __init__(self, guardian: int) -> None:
        """`guardian` is its os_pid. Called in its child. Ends at once if it is dead already."""
        self.guardian = os.pidfd_open(guardian)
        """Readable once the guardian is dead. It is our parent, so the number was its own if it still is."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != guardian:
            os._exit(1)


def stand_guard(relay: Relay | None = None) -> Guarded | int:
    """Fork. Returns a `Guarded` in the child, which is to be the supervisor, and is to unblock `LATER` when it has handlers; and in this process, when the child has ended and
    nothing of it is left, its exit code. `relay` brings what the supervisor says to the service manager, which listens to its
    main process alone."""
    forwarded = {number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN}
    forwarded |= {signal.SIGINT, signal.SIGTERM}  # a shell ignores SIGINT for what it starts in the background
    become_subreaper()
    strangers = {child.os_pid for child in own_children()}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*forwarded, signal.SIGCHLD, signal.SIGIO})
    guardian = os.getpid()
    supervisor = os.fork()
    if supervisor == 0:
        os.setpgid(0, 0)
        guarded = Guarded(guardian)
        # Python's own handler raises; and no handler would run while a name is being resolved.
        for number in ENDING:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, {*before, *LATER})
        return guarded
    _close_all_but([] if relay is None else relay.for_guardian())
    if relay is not None:  # SIGIO says that the supervisor has said something: one wait for all that can happen
        fcntl.fcntl(relay, fcntl.F_SETOWN, guardian)
        fcntl.fcntl(relay, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    handed_on: set[int] = set()
    status = _wait_for(supervisor, forwarded, strangers, relay, handed_on)
    left = _kill_descendants(strangers)
    code = os.waitstatus_to_exitcode(status)
    if -code in ENDING & handed_on:
        _say("stopped before it had started", logging.INFO)
        return 0
    if code < 0:
        _say(f"the supervisor was ended by {_name(-code)}; processes of the runtime that were left and killed: {left}")
    return code if code >= 0 else 128 - code


def _close_all_but(kept: list[int]) -> None:
    start = 3
    for descriptor in [*sorted(kept), os.sysconf("SC_OPEN_MAX")]:
        os.closerange(start, descriptor)
        start = descriptor + 1


def _wait_for(
    supervisor: int, forwarded: Collection[int], strangers: set[int], relay: Relay | None, handed_on: set[int]
) -> int:
    """Reap `strangers` (where this is PID 1 they may be many), and hand signals and notifications on until the supervisor has
    ended. Returns its wait status; the signals are added to `handed_on`."""
    awaited = {*forwarded, signal.SIGCHLD, signal.SIGIO}
    complained = False
    while True:
        if relay is not None:
            relay.pass_on()
            if relay.problem is not None and not complained:
                complained = True
                _say(f"the service manager (NOTIFY_SOCKET) cannot be told: {relay.problem}")
        while True:
            try:
                os_pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                raise AssertionError("only the guardian reaps its children") from None
            if os_pid == supervisor:
                if relay is not None:
                    relay.pass_on()
                return status
            if os_pid == 0:
                break
            strangers.discard(os_pid)  # the number may now be anybody's
        if relay is not None and relay.waiting:
            came = signal.sigtimedwait(awaited, _LOOK_AGAIN)
        else:
            came = signal.sigwaitinfo(awaited)
        if came is not None and came.si_signo in forwarded:
            handed_on.add(came.si_signo)
            os.kill(supervisor, came.si_signo)  # it is not reaped, so the number is its own (S2)


def _kill_descendants(strangers: Collection[int]) -> int:
    """SIGKILL and reap what the supervisor has left, again and again: the children of the dead become ours. Returns how many
    there were."""
    deadline = time.monotonic() + KILL_TIMEOUT
    seen: set[int] = set()
    while left := _descendants(strangers):
        seen |= {child.os_pid for child in left}
        if time.monotonic() > deadline:
            _say(f"some processes did not die within {KILL_TIMEOUT:.0f} s: {sorted(child.os_pid for child in left)}")
            break
        for child in left:
            os.kill(child.os_pid, signal.SIGKILL)  # they are not reaped, so the numbers are their own (S2)
        signal.sigtimedwait({signal.SIGCHLD}, _LOOK_AGAIN)
        for child in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.os_pid, os.WNOHANG)
    return len(seen)


def _descendants(strangers: Collection[int]) -> list[Relative]:
    """Our children, the dead ones too, that the runtime has started: all that it starts leaves our session at once."""
    session = os.getsid(0)
    return [child for child in own_children(strangers) if child.session != session]


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _say(text: str, level: int = logging.ERROR) -> None:
    with contextlib.suppress(RuntimeError):  # no thread is to be had: whoever reads the log may hold us up
        log_writer.start()
    logger.log(level, "%s", text)
