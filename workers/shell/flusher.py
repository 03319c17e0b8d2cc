"""Writes what is collected when the handler does not come back for it (S7): it sleeps, waits for a database, or computes.

A thread that looks every `INTERVAL` seconds while something is being collected, and sleeps otherwise. What it finds twice, with
no flush in between, it writes: so nothing is kept longer than about two intervals. It never runs Python code of a signal
handler, nor is it given a signal.
"""

from __future__ import annotations

import _thread
import os
import signal
import time
from collections.abc import Callable

INTERVAL = 0.005
"""Seconds between two looks."""
_PATIENCE = 20
"""Looks that find nothing before the thread goes to sleep."""


class Flusher:
    """One for each process that collects."""

    def __init__(self, waits: Callable[[], bool], flush: Callable[[], None]) -> None:
        """`waits()` says whether anything is not written, `flush()` writes what it can; both are called from the thread."""
        self._waits = waits
        self._flush = flush
        self._asleep = False
        self._event = -1
        self.flushes = 0
        """Counts up with every flush of the handler's own."""

    def collecting(self) -> None:
        """Something has been collected. Starts the thread, or wakes it."""
        if self._event < 0:
            self._start()
        elif self._asleep:
            self._asleep = False
            os.eventfd_write(self._event, 1)

    def _start(self) -> None:
        self._event = os.eventfd(0, os.EFD_CLOEXEC)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            _thread.start_new_thread(self._run, ())  # no `threading.Thread`: it is not the user's to count or to join
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _run(self) -> None:
        seen, idle = -1, 0
        while True:
            time.sleep(INTERVAL)
            if not self._waits():
                seen, idle = -1, idle + 1
                if idle >= _PATIENCE:
                    idle = 0
                    self._sleep()
            elif seen == self.flushes:
                self._flush()
                seen = -1
            else:
                seen, idle = self.flushes, 0

    def _sleep(self) -> None:
        self._asleep = True
        if not self._waits():  # otherwise it came before the flag was up, and nobody wakes us
            os.eventfd_read(self._event)
        self._asleep = False

    def close_in_fork(self) -> None:
        """This is a forked child: the thread is the parent's."""
        if self._event >= 0:
            os.close(self._event)
