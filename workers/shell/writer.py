"""Writes frames to a socket so that none is ever torn, whatever interrupts (S11).

Frames are written in the order of `write` and `collect`. What the socket does not take at once stays here, and is finished
before the next frame. Whoever writes next finishes it first: the same call, another thread, a signal handler in the midst of a
write, a call after an exception or a cancelled task.

How a signal handler can take over. Python runs handlers between two bytecodes. If the rest of a frame were computed, then
written, then recorded, a handler between any two of these would write the same bytes again. So all three are one step of C:
`written.extend(map(send, …))`, where the argument of `send` is computed from the sum of `written` by further `map`s, and no bytecode
runs from the sum to the record. A frame's position is always the sum of what is recorded. Only the outermost call removes
finished frames, so that positions in the queue hold for those it interrupted.
(From 3.12 on the garbage collector runs between bytecodes too. In 3.11 a finaliser that sends could come between.)

Mostly nothing waits. Then a frame is written and, with how much of it was, put into the queue in one such step of `write`;
it is removed at once if all of it went out. That nothing waits is looked at right before this step: handlers run after a call and
at a jump backwards, and neither comes between.

Frames that are *collected* (S7, opt-in) wait in a list until `flush` or the next `write`, which make one of them all: joined, put
into the queue and taken off the list in one step of C too.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator

from ...kernel.wire.errors import ChannelLost, LimitExceeded

MAX_UNSENT = 32 << 20
"""Bytes that may wait here. Only an async handler that does not await its sends gets that far."""
MAX_COLLECTED = 64 << 10
"""Bytes of collected frames that are written without being asked for."""
_LOOK_AGAIN = 1.0
"""Seconds after which a waiting thread looks whether the channel was closed meanwhile."""
_SMALL = 64 << 10
"""Bytes up to which a frame is written before it is counted."""
# These have no end, and are their own iterators: a tuple would need one for each frame.
_FLAGS = itertools.repeat(int(socket.MSG_NOSIGNAL))
_NOT_COUNTED = itertools.repeat(True)
_WHOLE = slice(None)

Outgoing = tuple[bytes, int, list[int], bool | None]
"""A frame on its way out: its bytes; how many of them were written as it was queued, and how many by each call after that; and True
if it is not counted as unsent."""


def is_done(outgoing: Outgoing) -> bool:
    """Whether every byte has been written."""
    frame, first, written, _ = outgoing
    return sum(written, first) >= len(frame)


OUT: Outgoing = (b"", 0, [], True)
"""Stands for a frame of which nothing is left to do."""


class Writer:
    """The writing half of a channel. Any thread may use it."""

    def __init__(self, end: socket.socket) -> None:
        """`end` is non-blocking, and stays its owner's to close, after `abandon`."""
        self._end = end
        self._send = end.send
        self._lock = threading.RLock()
        self._frames: deque[Outgoing] = deque()
        self.collected: list[bytes] = []
        """Frames that wait for `flush` or the next `write`."""
        self._unsent = 0
        self._depth = 0
        self._sealed = False
        self.broken = False
        """The peer's end is gone: frames are dropped, the death notice will tell (S8)."""

    def write(self, frame: bytes, *, last: bool = False) -> Outgoing:
        """Queue a frame and write what can be written now; nothing can follow the `last` one.

        Raises ChannelLost after the last frame, and LimitExceeded when more than `MAX_UNSENT` bytes wait.
        """
        with self._lock:
            frames, size = self._frames, len(frame)
            if last or self._sealed or self.broken or frames or self.collected or size > _SMALL:
                return self._queue(frame, last=last)
            one = (frame,)
            step: Iterator[Outgoing] = zip(one, map(self._send, one, _FLAGS), ([],), _NOT_COUNTED)  # noqa: B905
            try:
                if frames:  # no call comes between this look and the step
                    return self._queue(frame, last=False)
                frames.extend(step)
            except (BlockingIOError, InterruptedError):
                return self._queue(frame, last=False)
            except OSError:
                self.broken = True
                return OUT
            if frames:
                outgoing = frames[0]
                if outgoing[0] is frame:  # otherwise a handler has finished and removed it
                    if outgoing[1] < size:
                        return outgoing
                    frames.popleft()
            return OUT

    def _queue(self, frame: bytes, *, last: bool) -> Outgoing:
        if self._sealed:
            raise ChannelLost("this process is ending: nothing can be sent any more")
        self._require_room()
        self._sealed = last
        outgoing: Outgoing = (frame, 0, [], None)
        if not self.broken:
            self._line_up()
            self._unsent += len(frame)
            self._frames.append(outgoing)
        self.flush()
        return outgoing

    def collect(self, frame: bytes) -> Outgoing:
        """Keep a frame for the next `flush` or `write`; from `MAX_COLLECTED` bytes on they are written, and what is returned
        is out when they are. Raises what `write` raises."""
        with self._lock:
            if self._sealed:
                raise ChannelLost("this process is ending: nothing can be sent any more")
            self._require_room()
            if not self.broken:
                self._unsent += len(frame)
                self.collected.append(frame)
            if self._unsent < MAX_COLLECTED or self.flush():
                return OUT
            return self.last_queued

    def _require_room(self) -> None:
        if self._unsent > MAX_UNSENT:
            raise LimitExceeded(f"more than {MAX_UNSENT} bytes wait to be sent: await each send")

    def _line_up(self) -> None:
        """Make one frame of those collected, and queue it."""
        collected = self.collected
        if collected:
            joined = map(b"".join, (collected,))
            cleared = map(operator.delitem, (collected,), (_WHOLE,))
            self._frames.extend(zip(joined, (0,), ([],), cleared))  # noqa: B905

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
        return self.broken or not (self._frames or self.collected)

    @property
    def last_queued(self) -> Outgoing:
        """What is out when everything is that is in the queue now."""
        try:
            return self._frames[-1]
        except IndexError:
            return OUT

    def is_out(self, outgoing: Outgoing) -> bool:
        """Whether nothing is left to do for a frame: written, or dropped with the channel."""
        return outgoing is OUT or self.broken or is_done(outgoing)

    def flush(self) -> bool:
        """Write what can be written now. Returns whether nothing is left."""
        with self._lock:
            if not self.collected and not self._frames:
                return True
            depth = self._depth
            try:
                self._depth = depth + 1
                self._line_up()
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
            if is_done(outgoing):
                index += 1
                continue
            try:
                self._write_rest(outgoing)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError:
                self.broken = True
        return True

    def _write_rest(self, outgoing: Outgoing) -> None:
        """Write what the socket takes. Raises what `send` raises; then nothing was written."""
        frame, first, written, _ = outgoing
        rest = map(memoryview(frame).__getitem__, map(slice, map(sum, (written,), (first,)), (None,)))
        written.extend(map(self._send, rest, _FLAGS))

    def _forget_finished(self) -> None:
        while self._frames and (self.broken or is_done(self._frames[0])):
            frame, _, _, uncounted = self._frames[0]
            if not uncounted:
                self._unsent -= len(frame)
            self._frames.popleft()
        if self.broken:
            self.collected.clear()

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
        self.collected.clear()
