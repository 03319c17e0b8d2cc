"""Runs a command, and sees to it that nothing of it is left: `python -m mutation.contained SECONDS COMMAND…`.

Broken code leaves processes behind, in sessions of their own and stopped. This process is the subreaper of all of them: they
become its children when their parents die, it reaps them as they end, and kills them when the command has ended or taken too
long. Ends with the command's status, or with 124 when the time was up.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time

import psutil

TIME_IS_UP = 124
_LOOK_AGAIN = 0.05
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_CHILD_SUBREAPER, 1), (_PR_SET_PDEATHSIG, signal.SIGTERM)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if os.getppid() != parent:
        return 1
    try:
        return _run(float(arguments[0]), arguments[1:])
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _kill_all()


def _run(seconds: float, command: list[str]) -> int:
    started = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        os_pid, status = os.waitpid(-1, os.WNOHANG)
        if os_pid == started.pid:
            started.returncode = os.waitstatus_to_exitcode(status)
            return started.returncode if started.returncode >= 0 else 128 - started.returncode
        if os_pid == 0:
            time.sleep(_LOOK_AGAIN)
    return TIME_IS_UP


def _kill_all() -> None:
    """SIGKILL and reap every descendant, until there is none."""
    while True:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(_LOOK_AGAIN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
