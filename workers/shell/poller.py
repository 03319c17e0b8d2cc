"""Waiting on a worker's two channels until one of them can be read, or written where something is unsent.

Reads and writes nothing of theirs. A signal handler may wait in the midst of a wait, and wakes what it has interrupted.

A signal ends a wait through a pipe, to which CPython writes. The signal alone would interrupt poll(2) only if it came to this thread, and not
in the moment between CPython's last look for handlers that are due and the call: then the handler would run with the next message.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import select
import signal
import time

from .channels import Duplex

POLLOUT = select.POLLOUT

_LONGEST_POLL = 86400.0
"""Seconds: poll(2) takes 31 bits of milliseconds. Who waits longer looks again."""
_PIPE_SIZE = 4096
"""Bytes, the least there is: a user who is not root has 16,384 pages for all pipes, and a pipe has 16 by itself. pipe(7)"""


class Poller:
    """What a worker's waits watch."""

    def __init__(self) -> None:
        """Made in the main thread."""
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._wake, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        self.hear_signals()
        self._made: tuple[tuple[object, ...], select.poll] | None = None
        """What the last wait watched, and how; made anew when that changes."""

    def poll(
        self, control: Duplex, reads_control: bool, data: Duplex | None, reads_data: bool, deadline: float | None
    ) -> list[tuple[int, int]]:
        """Block until something can be done, or until `deadline` on the monotonic clock. The end of a channel is always seen.

        Returns descriptors and what poll(2) says of each: none at the deadline, and one of neither channel for a wake.
        """
        writes_data = data is not None and not data.writer.idle
        state = (reads_control, not control.writer.idle, data, reads_data, writes_data)
        made, self._made = self._made, None  # a signal handler that waits meanwhile makes its own
        if made is None or made[0] != state:
            made = (state, self._watch(control, *state))
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            ready = made[1].poll(None if remaining is None else math.ceil(min(remaining, _LONGEST_POLL) * 1000))
        finally:
            self._made = made
        for descriptor, _ in ready:
            if descriptor == self._woken:
                self.calm()
        return ready

    @property
    def woken(self) -> int:
        """The descriptor that can be read after a signal or `wake`, for who watches it in another way."""
        return self._woken

    def calm(self) -> None:
        """Read what has woken it."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, _PIPE_SIZE)

    def _watch(
        self,
        control: Duplex,
        reads_control: bool,
        writes_control: bool,
        data: Duplex | None,
        reads_data: bool,
        writes_data: bool,
    ) -> select.poll:
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        poll.register(control.fileno(), select.POLLIN * reads_control | select.POLLOUT * writes_control)
        mask = select.POLLIN * reads_data | select.POLLOUT * writes_data
        if data is not None and mask:
            poll.register(data.fileno(), mask)
        return poll

    def wake(self) -> None:
        """End the wait that is under way, or else the next."""
        with contextlib.suppress(BlockingIOError):  # it is full: that wakes too
            os.write(self._wake, b"\0")

    def hear_signals(self) -> None:
        """Have signals wake it from here on. An event loop with signal handlers of its own takes that over, and does not give it
        back. Called in the main thread."""
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def close(self) -> None:
        """Close what wakes it. Called in the main thread, which may be that of a fork."""
        other = signal.set_wakeup_fd(-1)
        os.close(self._woken)
        os.close(self._wake)
        if other not in (-1, self._wake):
            with contextlib.suppress(ValueError, OSError):  # an event loop's, which is closed by now
                signal.set_wakeup_fd(other)
