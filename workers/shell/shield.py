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
from typing import Any

_SIGSET_SIZE = 128
_FAULTS = (
    signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGSYS,
)  # fmt: skip
"""Raised by the code itself: never deferred."""

_libc = ctypes.PyDLL(None)
_sigmask = _libc.pthread_sigmask
_sigmask.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_sigmask.restype = ctypes.c_int
_run_handlers = ctypes.pythonapi.PyErr_CheckSignals


def _all_but_faults() -> ctypes.Array[ctypes.c_char]:
    mask = (1 << 64) - 1
    for number in _FAULTS:
        mask &= ~(1 << (number - 1))
    return ctypes.create_string_buffer(mask.to_bytes(8, "little"), _SIGSET_SIZE)


_Mask = ctypes.c_char * _SIGSET_SIZE
_blocked = _all_but_faults()
_blocked_address = ctypes.addressof(_blocked)


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
            _sigmask(signal.SIG_BLOCK, _blocked_address, saved)
            _run_handlers()
            self._saved.append(saved)
            self.active = True
        except BaseException:  # the handler of a signal that came just before
            if self._saved and self._saved[-1] is saved:
                self._saved.pop()
            _sigmask(signal.SIG_SETMASK, saved, None)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.torn = True
        self.active = False
        try:
            _sigmask(signal.SIG_SETMASK, self._saved[-1], None)  # from here on a handler may raise
        finally:
            self._saved.pop()
