"""Keeps Python's signal handlers out of a few lines of code.

A handler that raises between reading bytes and keeping what they say would tear a hole into a stream (S11). So signals are
blocked there for some microseconds. `signal.pthread_sigmask` does the same and is ten times slower, because it makes a set of
enumeration members each time.

Blocking holds for the calling thread. In a process with other threads the kernel may give a signal to one of those, and
Python then still runs the handler in the main thread: `Shield` notices if that raises.
"""

from __future__ import annotations

import ctypes
import signal
from types import TracebackType
from typing import Any, Final

_SIGSET_SIZE = 128
_FAULTS = (
    signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGSYS,
)  # fmt: skip
"""Raised by the code itself: never deferred."""

# Functions of their own, without declared argument types: those would be converted one by one, which takes longer than the
# call. What is passed is plain: `int` and `byref`.
_sigmask = ctypes.PyDLL(None)["pthread_sigmask"]
_run_handlers = ctypes.PyDLL(None)["PyErr_CheckSignals"]
_BLOCK: Final = int(signal.SIG_BLOCK)
_SETMASK: Final = int(signal.SIG_SETMASK)


def _all_but_faults() -> ctypes.Array[ctypes.c_char]:
    mask = (1 << 64) - 1
    for number in _FAULTS:
        mask &= ~(1 << (number - 1))
    return ctypes.create_string_buffer(mask.to_bytes(8, "little"), _SIGSET_SIZE)


_Mask = ctypes.c_char * _SIGSET_SIZE
_blocked = _all_but_faults()
_blocked_reference = ctypes.byref(_blocked)


class Shield:
    """A context without signal handlers. `torn` says that one was left by an exception.

    The handler of a signal that came just before may still be waiting to run: the interpreter can leave that for much later.
    So it is run here, when the mask is set already, and may enter in its turn. So each entry keeps the mask that it found:
    what a handler finds is the blocked one, and must not be what is put back in the end.
    """

    __slots__ = ("_saved", "active", "torn")

    def __init__(self) -> None:
        self._saved: list[Any] = []  # references, as `byref` makes them
        self.active = False
        self.torn = False

    def __enter__(self) -> None:
        saved = ctypes.byref(_Mask())
        try:
            _sigmask(_BLOCK, _blocked_reference, saved)
            _run_handlers()
            self._saved.append(saved)
            self.active = True
        except BaseException:  # the handler of a signal that came just before
            if self._saved and self._saved[-1] is saved:
                self._saved.pop()
            _sigmask(_SETMASK, saved, None)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.torn = True
        self.active = False
        try:
            _sigmask(_SETMASK, self._saved[-1], None)  # from here on a handler may raise
        finally:
            self._saved.pop()
