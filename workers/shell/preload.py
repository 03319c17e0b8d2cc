"""Imports the users' modules into the fork server, if that is safe for the workers that will be forked from it.

A module that starts a thread, a child process or an event loop, or leaves a descriptor open, cannot be forked: so a throw-away
child imports each first, and what it is left with is the verdict. What is refused is imported by each worker that needs it.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import select
import signal
import sys
from typing import Any

from . import system
from .loader import load_module

PATIENCE = 10.0
"""Seconds that the import of one source may take."""
_MAX_VERDICT = 2048
_ACCEPTED = b"+"


def preload(sources: tuple[str, ...], patience: float = PATIENCE) -> list[tuple[str, str]]:
    """Import the sources. Return those that were refused, each with the reason."""
    system.adopt_orphans()
    refused = []
    for source in sources:
        why = _try_in_child(source, patience)
        if why is None:
            try:
                load_module(source)
            except BaseException as error:
                why = _describe(error)
        if why is not None:
            refused.append((source, why))
    return refused


def _try_in_child(source: str, patience: float) -> str | None:
    """Import `source` in a child that is then thrown away. Return what speaks against it."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    parent = os.getpid()
    os_pid = os.fork()
    if os_pid == 0:
        _be_the_trial(source, writer, parent)
    os.close(writer)
    pidfd = os.pidfd_open(os_pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(patience * 1000):
            return f"its import took longer than {patience:g} s"
        return _read_verdict(reader)
    finally:
        os.close(pidfd)
        os.close(reader)
        _sweep(os_pid)


def _read_verdict(reader: int) -> str | None:
    try:
        verdict = os.read(reader, 2 * _MAX_VERDICT)
    except BlockingIOError:  # whoever the import left behind holds the other end
        verdict = b""
    if verdict == _ACCEPTED:
        return None
    return verdict.decode(errors="replace") or "its import ended the process"


def _sweep(os_pid: int) -> None:
    """Kill the child and all that it left behind: orphans are this process's children, and it has no others."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(os_pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(os_pid, signal.SIGKILL)
    while True:
        for child in system.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _be_the_trial(source: str, writer: int, parent: int) -> None:
    """Import, say what came of it, and end. Never returns."""
    verdict = b"its import ended the process"
    try:
        os.setpgid(0, 0)
        system.die_with_parent(parent)
        system.adopt_orphans()
        null = os.open(os.devnull, os.O_WRONLY)
        for number in (1, 2):
            os.dup2(null, number)
        os.close(null)
        before = _descriptors()
        finder = ThreadFinder()
        load_module(source)
        why = _what_is_left(before, finder.culprits)
        verdict = _ACCEPTED if why is None else why.encode()
    except BaseException as error:
        verdict = _describe(error).encode(errors="replace")
    finally:
        with contextlib.suppress(BaseException):
            os.write(writer, verdict[:_MAX_VERDICT])
        os._exit(0)


class ThreadFinder:
    """Finds out which import starts a thread, by counting before and after each: threads of native code are seen too.

    Stands in for `__import__`, in a process that is thrown away.
    """

    def __init__(self) -> None:
        self.culprits: list[str] = []
        """The modules whose own import has started one, innermost first."""
        self._import = builtins.__import__
        self._known = 0
        builtins.__import__ = self._count_around

    def _count_around(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        if name in sys.modules:
            return self._import(name, *arguments, **keywords)
        before = _threads() - self._known
        module = self._import(name, *arguments, **keywords)
        own = _threads() - self._known - before
        if own > 0:  # what is imported inside has been counted by now
            self.culprits.append(name)
            self._known += own
        return module


def _threads() -> int:
    return len(os.listdir("/proc/self/task")) - 1


def _what_is_left(before: dict[int, str], culprits: list[str]) -> str | None:
    if threads := _threads():
        by = f", started by the import of {', '.join(culprits)}" if culprits else ""
        return f"its import leaves {threads} threads running{by}"
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return "its import leaves a child process"
    for number, what in _descriptors().items():
        if before.get(number) != what:
            if "eventpoll" in what:
                return "its import leaves an event loop open"
            return f"its import leaves a descriptor open: {what}"
    return None


def _descriptors() -> dict[int, str]:
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that lists the folder is gone
            found[int(number)] = os.readlink(f"/proc/self/fd/{number}")
    return found


def _describe(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"its import raises {text}"
