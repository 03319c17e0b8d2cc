"""What ends a run early, and what is left of it then: nothing.

SIGINT, SIGTERM and SIGHUP stop a run once, as an exception, so that every server is stopped as it is after a measurement; further
signals are ignored until that is done. An exception can come at any point, between the start of a process and the note of it,
say. So what is still there in the end is killed, whoever has started it, and all temporary files are in one folder, which is
removed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from .report.text import progress

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SWEEP_TIMEOUT = 10.0
"""Seconds after which what does not die of SIGKILL is left to the kernel."""
_PR_SET_CHILD_SUBREAPER = 36


class Interrupted(BaseException):
    """A signal asks for the end."""


def contained(perform: Callable[[], int]) -> int:
    """Perform, and see to it that no process and no temporary file stays. Returns the exit status.

    Of a run that a signal has stopped it is 128 and the signal's number. For the main thread of a process that ends afterwards:
    its signal handlers and its temporary folder stay as they are set here.
    """
    folder = Path(tempfile.gettempdir(), f"wsrelay-bench-{secrets.token_hex(4)}")

    def inside() -> int:
        folder.mkdir(0o700)
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        return perform()

    _adopt_orphans()
    try:
        return interruptible(inside)
    finally:
        _sweep()
        shutil.rmtree(folder, ignore_errors=True)


def interruptible(perform: Callable[[], int]) -> int:
    """Perform until a signal comes, and then say so. Returns the exit status."""
    stopped: list[int] = []

    def stop(number: int, _: object) -> None:
        if not stopped:
            stopped.append(number)
            raise Interrupted

    for number in SIGNALS:
        # `nohup` has one of them ignored, and a shell has it of what runs in the background.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        try:
            return perform()
        finally:
            stopped.append(0)  # from here on it is too late
    except Interrupted:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # which the end of Python leaves as it is
        with contextlib.suppress(OSError):  # the terminal is gone after SIGHUP
            progress("")
            print(f"interrupted by {signal.Signals(stopped[0]).name}: everything is stopped", file=sys.stderr)
        return 128 + stopped[0]


def _adopt_orphans() -> None:
    """What loses its parent becomes a child of this process, so that all that a run has started is found below it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _sweep() -> None:
    """Kill what is below this process, and what it hands on to it when it dies."""
    deadline = time.monotonic() + SWEEP_TIMEOUT
    while (left := psutil.Process().children(recursive=True)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)
