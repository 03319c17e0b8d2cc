"""Writes frames to a socket so that none is ever torn, whatever interrupts (S11).

Frames are written in the order of `write`. What the socket does not take at once stays here, and is finished before the next
frame. Whoever writes next finishes it first: the same call, another thread, a signal handler in the midst of a write, a call
after an exception or a cancelled task.

How a signal handler can take over. Python runs handlers between two bytecodes. If the rest of a frame were computed, then
written, then recorded, a handler between any two of these would write the same bytes again. So all three are one step of C:
`written.extend(map(send, …))`, where the argument of `send` is computed from `sum(written)` by further `map`s, and no bytecode
runs from the sum to the record. A frame's position is always the sum of what is recorded. Only the outermost call removes
finished frames, so that positions in the queue hold for those it interrupted.
(From 3.12 on the garbage collector runs between bytecodes too. In 3.11 a finaliser that sends could come between.)
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import deque

from ...kernel.wire.errors import ChannelLost, LimitExceeded

MAX_UNSENT = 32 << 20
"""Bytes that may wait here. Only an async handler that does not await its sends gets that far."""
_LOOK_AGAIN = 1.0
"""Seconds after which a waiting thread looks whether the channel was closed meanwhile."""


class Outgoing:
    """A frame on its way out."""

    __slots__ = ("_size", "_view", "_written")

    def __init__(self, frame: bytes) -> None:
        self._view = memoryview(frame)
        self._size = len(frame)
        self._written: list[int] = []

    def __len__(self) -> int:
        return self._size

    @property
    def done(self) -> bool:
        """Every byte has been written."""
        return sum(self._written) >= self._size

    def write(self, end: socket.socket) -> None:
        """Write what the socket takes. Raises what `send` raises; then nothing was written."""
        written = self._written
        rest = map(self._view.__getitem__, map(slice, map(sum, (written,)), (None,)))
        written.extend(map(end.send, rest, (socket.MSG_NOSIGNAL,)))


class Writer:
    """The writing half of a channel. Any thread may use it."""

    def __init__(self, end: socket.socket) -> None:
        """`end` is non-blocking, and stays its owner's to close, after `abandon`."""
        self._end = end
        self._lock = threading.RLock()
        self._frames: deque[Outgoing] = deque()
        self._unsent = 0
        self._depth = 0
        self._sealed = False
        self.broken = False
        """The peer's end is gone: frames are dropped, the death notice will tell (S8)."""

    def write(self, frame: bytes, *, last: bool = False) -> Outgoing:
        """Queue a frame and write what can be written now; nothing can follow the `last` one.

        Raises ChannelLost after the last frame, and LimitExceeded when more than `MAX_UNSENT` bytes wait.
        """
        outgoing = Outgoing(frame)
        with self._lock:
            if self._sealed:
                raise ChannelLost("this process is ending: nothing can be sent any more")
            if self._unsent > MAX_UNSENT:
                raise LimitExceeded(f"more than {MAX_UNSENT} bytes wait to be sent: await each send")
            self._sealed = last
            if not self.broken:
                self._unsent += len(outgoing)
                self._frames.append(outgoing)
            self.flush()
        return outgoing

    def seal(self) -> None:
        """Nothing can be written any more; what waits is still to be sent."""
        with self._lock:
            self._sealed = True

    def finish(self) -> None:
        """Block until nothing waits, or the channel is gone."""
        while not self.flush():
            self.wait_writable(_LOOK_AGAIN)

    @property
    def idle(self) -> bool:
        """Nothing waits to be written."""
        return not self._frames or self.broken

    def is_out(self, outgoing: Outgoing) -> bool:
        """Whether nothing is left to do for a frame: written, or dropped with the channel."""
        return self.broken or outgoing.done

    def flush(self) -> bool:
        """Write what can be written now. Returns whether nothing is left."""
        with self._lock:
            depth = self._depth
            try:
                self._depth = depth + 1
                finished = self._write_all()
                if depth == 0:
                    self._forget_finished()
            finally:
                self._depth = depth
        return finished

    def _write_all(self) -> bool:
        index = 0
        while index < len(self._frames) and not self.broken:
            outgoing = self._frames[index]
            if outgoing.done:
                index += 1
                continue
            try:
                outgoing.write(self._end)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                self.broken = True
        return True

    def _forget_finished(self) -> None:
        while self._frames and (self.broken or self._frames[0].done):
            self._unsent -= len(self._frames[0])
            self._frames.popleft()

    def wait(self, outgoing: Outgoing, deadline: float | None = None) -> bool:
        """Block until a frame is out, or `deadline` (of the monotonic clock). Returns whether it is out."""
        while not self.is_out(outgoing):
            remaining = _LOOK_AGAIN if deadline is None else min(deadline - time.monotonic(), _LOOK_AGAIN)
            if remaining <= 0:
                return False
            self.wait_writable(remaining)
            self.flush()
        return True

    def wait_writable(self, timeout: float) -> None:
        """Block until the socket takes more, or `timeout` seconds."""
        descriptor = self._end.fileno()
        if descriptor >= 0:
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll(timeout * 1000)

    def abandon(self) -> None:
        """The channel is about to be closed: drop what waits, and let go whoever waits for it."""
        self.broken = True
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    def forget_in_fork(self) -> None:
        """This is a forked child: a lock that another thread held would stay locked."""
        self._lock = threading.RLock()
        self.broken = True
