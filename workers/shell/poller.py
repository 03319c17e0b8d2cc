"""Waiting on a worker's two channels until one of them can be read, or written where something is unsent.

Reads and writes nothing of theirs. A signal handler may wait in the midst of a wait, and wakes what it has interrupted.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import time

from .channels import Duplex

POLLOUT = select.POLLOUT

_LONGEST_POLL = 86400.0
"""Seconds: poll(2) takes 31 bits of milliseconds. Who waits longer looks again."""


class Poller:
    """What a worker's waits watch."""

    def __init__(self) -> None:
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._made: tuple[tuple[object, ...], select.poll] | None = None
        """What the last wait watched, and how; made anew when that changes."""

    def poll(
        self, control: Duplex, data: Duplex | None, reads_data: bool, deadline: float | None
    ) -> list[tuple[int, int]]:
        """Block until something can be done, or until `deadline` on the monotonic clock.

        Returns descriptors and what poll(2) says of each: none at the deadline, and one of neither channel for a wake.
        """
        state = (not control.writer.idle, data, reads_data, data is not None and not data.writer.idle)
        made, self._made = self._made, None  # a signal handler that waits meanwhile makes its own
        if made is None or made[0] != state:
            made = (state, self._watch(control, *state))
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            ready = made[1].poll(None if remaining is None else math.ceil(min(remaining, _LONGEST_POLL) * 1000))
        finally:
            self._made = made
        for descriptor, _ in ready:
            if descriptor == self._wake:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(descriptor)
        return ready

    def _watch(
        self, control: Duplex, writes_control: bool, data: Duplex | None, reads_data: bool, writes_data: bool
    ) -> select.poll:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(control.fileno(), select.POLLIN | select.POLLOUT * writes_control)
        mask = select.POLLIN * reads_data | select.POLLOUT * writes_data
        if data is not None and mask:
            poll.register(data.fileno(), mask)
        return poll

    def wake(self) -> None:
        """End the wait that is under way, or else the next."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Close what wakes it."""
        os.close(self._wake)
