"""A channel: one end of an AF_UNIX stream socketpair that speaks frames, without blocking.

Owns the socket, the bytes not yet written, and the descriptors in flight. Knows nothing of event loops: its owner watches
`fileno()`, calls `receive()` when it is readable and `flush()` when it is writable. Who holds the other end is who speaks
on it, so a reader stamps the sender (S9).
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import socket
from collections import deque
from collections.abc import Mapping
from typing import Any, cast

from .codec import FrameDecoder, encode
from .errors import ProtocolViolation
from .messages import CARRIES_DESCRIPTOR, MAX_FRAME

RECEIVE_SIZE = 64 << 10
"""Bytes asked for by one `receive`. From 128 KiB on, glibc maps and unmaps memory for each, which takes 14 µs."""
SOCKET_BUFFER = 256 << 10
"""Bytes; about the kernel's default of 208 KiB, made the same everywhere."""
DRAIN_LIMIT = 64 << 20
"""Bytes that `drain` reads at most: far more than a socket buffer holds."""
_MAX_DESCRIPTORS = 16
_ANCILLARY_SPACE = socket.CMSG_SPACE(_MAX_DESCRIPTORS * 4)
_COALESCE = 64 << 10
_FLAGS = (socket.MSG_NOSIGNAL,)
_TRUNCATED = int(socket.MSG_CTRUNC)  # `&` with a member of an enumeration runs a dozen lines of Python
_LOST = -1
"""Stands for a descriptor that the kernel could not give us, so that the others stay with their frames."""


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new channel, both non-blocking and close-on-exec."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in ends:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
    return ends


class Channel:
    """One end. Not for use from more than one thread."""

    def __init__(
        self,
        end: socket.socket,
        accepts: Mapping[int, type],
        *,
        descriptors: bool = False,
        limit: int = MAX_FRAME,
        resumable: bool = False,
        decoder: type[FrameDecoder] = FrameDecoder,
    ) -> None:
        """`accepts` is the table of what the peer may say. With `descriptors` the peer may pass them; otherwise the
        kernel drops any that it does. With `resumable` another process can go on reading where this one stops (S35)."""
        end.setblocking(False)
        self._socket = end
        self._decoder = decoder(accepts, limit=limit, resumable=resumable)
        self._takes_descriptors = descriptors
        self._descriptors: deque[int] = deque()
        self._unsent: deque[tuple[bytearray, int | None]] = deque()
        self._offset = 0
        self._written: list[int] = []
        self._flushing = False
        self.pending = 0
        """Bytes accepted by `send` and not yet written."""
        self.frames_sent = 0
        """Frames accepted by `send`."""
        self.ended = False
        """The peer's end is closed or reset, and everything it wrote has been read."""
        self.broken = False
        """Writing failed for good: the peer's end is gone. What it wrote before can still be read."""
        self.violation: ProtocolViolation | None = None
        """What was wrong with the peer's bytes; nothing is read after it (S11)."""
        self.starved = False
        """The last `receive` found nothing to read."""

    def fileno(self) -> int:
        """The socket's descriptor, -1 once closed."""
        return self._socket.fileno()

    @property
    def frames_received(self) -> int:
        """Frames decoded so far."""
        return self._decoder.frames

    def receive(self, size: int = RECEIVE_SIZE) -> list[tuple[Any, ...]]:
        """Read once and return the records completed by it; [] when nothing is there.

        Sets `ended` at the end of the stream and `violation` at the first malformed frame; records before either count.
        """
        if self.ended or self.violation is not None or self._socket.fileno() < 0:
            return []
        self.starved = False
        try:
            data = self._read(size)
        except (BlockingIOError, InterruptedError):
            self.starved = True
            return []
        except OSError:  # reset: what had been written was returned by the reads before
            data = b""
        if not data:
            self.ended = True
            return []
        return self._decode(data)

    def _decode(self, data: bytes) -> list[tuple[Any, ...]]:
        records: list[tuple[Any, ...]] = []
        try:
            self._decoder.decode_into(records, data)  # keeps those before a violation
        except ProtocolViolation as violation:
            self.violation = violation
        return records

    @property
    def unfinished(self) -> bytes:
        """What has been read of a frame that is not complete (`resumable`)."""
        return self._decoder.unfinished

    def resume(self, unfinished: bytes) -> None:
        """Go on where another process has stopped reading: `unfinished` is what it had read of a frame."""
        self._decode(unfinished)

    def drain(self, size: int = DRAIN_LIMIT) -> list[tuple[Any, ...]]:
        """Read until nothing is there, the stream ends or is violated, and return all records: the last words of a dead
        peer (S14). No more than about `size` bytes: somebody else may still hold the peer's end and write."""
        records = []
        for _ in range(size // RECEIVE_SIZE + 1):
            records += self.receive()
            if self.starved or self.ended or self.violation is not None or self._socket.fileno() < 0:
                break
        return records

    def _read(self, size: int) -> bytes:
        if not self._takes_descriptors:
            return self._socket.recv(size)
        data, ancillary, flags, _ = self._socket.recvmsg(size, _ANCILLARY_SPACE, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                self._descriptors.extend(numbers)
        if flags & _TRUNCATED:
            self._descriptors.append(_LOST)
        return data

    def take_descriptor(self) -> int:
        """Return the descriptor that came with the record just received (`CARRIES_DESCRIPTOR`); it is the caller's.

        Raises ProtocolViolation if the frame came without one, and OSError (EMFILE) if it was lost on the way because
        this process has too many files open.
        """
        if not self._descriptors:
            raise ProtocolViolation("a frame that carries a descriptor came without it")
        descriptor = self._descriptors.popleft()
        if descriptor == _LOST:
            raise OSError(errno.EMFILE, "a descriptor was lost on its way: the limit on open files is too low")
        return descriptor

    def send(self, record: tuple[Any, ...], descriptor: int | None = None) -> None:
        """Queue a record; `flush` writes it. A descriptor is duplicated, and stays the caller's to close."""
        if (descriptor is not None) != (type(record) in CARRIES_DESCRIPTOR):
            raise ValueError(f"{type(record).__name__} and a descriptor do not go together")
        self.send_frame(encode(record), descriptor)

    def send_frame(self, frame: bytes, descriptor: int | None = None, *, count: int = 1) -> None:
        """Queue an encoded frame, or `count` of them. Frames for a broken channel are dropped: the death notice will tell (S8).

        Raises OSError if the descriptor cannot be duplicated; then nothing is queued.
        """
        if self.broken or self._socket.fileno() < 0:
            self.frames_sent += count
            return
        duplicate = None if descriptor is None else os.dup(descriptor)
        size = len(frame)
        tail, tail_descriptor = self._unsent[-1] if self._unsent and not self._flushing else (None, None)
        # A signal handler may flush `tail` at the call of `len`, so it is looked at again. After that, no call comes between.
        if (
            tail is not None
            and tail_descriptor is duplicate is None
            and len(tail) < _COALESCE
            and self._unsent
            and self._unsent[-1][0] is tail
        ):
            self.frames_sent += count
            self.pending += size
            tail.extend(frame)
            return
        # A large one is not added to, so it need not be copied.
        entry = (bytearray(frame) if size < _COALESCE else cast(bytearray, frame), duplicate)
        self.frames_sent += count
        self.pending += size
        self._unsent.append(entry)

    def flush(self) -> bool:
        """Write what can be written now. Returns whether nothing is left to write.

        A signal handler may raise at any call here, and yet no frame is torn (S11): how much was written is stored by
        the call that wrote, `extend`, and is accounted for before anything else is written. A handler that flushes in the
        midst of a flush leaves the work to the interrupted one, and gets True lest it wait for it; what it sends is not
        added to a frame that is being written.
        """
        if self._flushing:
            return True
        self._flushing = True
        try:
            self._write()
        finally:
            self._flushing = False
        return not self._unsent

    def _write(self) -> None:
        while self._unsent:
            frame, descriptor = self._unsent[0]
            if self._written:
                self._offset += self._written[0]
                self.pending -= self._written[0]
                del self._written[0]
            if self._offset == len(frame):
                self._offset = 0
                self._unsent.popleft()
                if descriptor is not None:
                    os.close(descriptor)
                continue
            try:
                if self._offset:
                    # The view must be released before `frame` can grow again.
                    with memoryview(frame) as whole, whole[self._offset :] as rest:
                        self._written.extend(map(self._socket.send, (rest,), _FLAGS))
                elif descriptor is None:
                    self._written.extend(map(self._socket.send, (frame,), _FLAGS))
                else:
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
                    self._written.extend(map(self._socket.sendmsg, ([frame],), (rights,), _FLAGS))
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._break()

    def _break(self) -> None:
        self.broken = True
        for _, descriptor in self._unsent:
            if descriptor is not None:
                os.close(descriptor)
        self._unsent.clear()
        self._written.clear()
        self._offset = self.pending = 0

    def close(self) -> None:
        """Close the socket and every descriptor in flight."""
        self._break()
        while self._descriptors:
            with contextlib.suppress(OSError):
                os.close(self._descriptors.popleft())
        self._socket.close()
