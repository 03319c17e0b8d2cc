"""What a test may not leave behind: descriptors, child processes, threads."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

import psutil

from .waiting import wait_until

GRACE = 5.0
"""Seconds that threads and processes on their way out may take."""


def open_descriptors() -> dict[int, str]:
    """The open descriptors of this process, each with what it refers to."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that listed the directory is gone again
            found[int(number)] = os.readlink(f"/proc/self/fd/{number}")
    return found


def child_processes(spared: Collection[int] = ()) -> dict[int, str]:
    """The descendants of this process, each with its command line; without those that are `spared`, and their descendants."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.pid not in spared and not any(parent.pid in spared for parent in process.parents()):
                found[process.pid] = f"{process.status()} {' '.join(process.cmdline())}"
    return found


def threads() -> dict[int, str]:
    """The live threads of this process, each with its name."""
    return {thread.ident or 0: thread.name for thread in threading.enumerate()}


def tagged_processes(variable: str, value: str) -> dict[int, str]:
    """Every process whose environment says `variable=value`, wherever it moved: each with its command line."""
    wanted, found = f"{variable}={value}".encode(), {}
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit() or int(directory.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if wanted in (directory / "environ").read_bytes().split(b"\0"):
                command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(directory.name)] = command.strip()
    return found


@contextlib.contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Check that the block leaves no descriptor, no child process and no thread that was not there before.

    What a process that was there before has started is that one's: the gateway of a runtime with a wider scope, for example.
    """
    descriptors, children, running = open_descriptors(), child_processes(), threads()
    yield
    left: dict[str, object] = {}

    def clean() -> bool:
        left.clear()
        left["descriptors"] = {n: what for n, what in open_descriptors().items() if descriptors.get(n) != what}
        left["processes"] = child_processes(children)
        left["threads"] = {ident: name for ident, name in threads().items() if ident not in running}
        return not any(left.values())

    if not clean():
        gc.collect()
        wait_until(clean, GRACE, lambda: f"the test to leave nothing behind; it left {left}")
