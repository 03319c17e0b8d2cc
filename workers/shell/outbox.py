"""How frames leave a worker: each at once (S7), or, if the handler has opted in, several with one write.

With coalescing, what the handler's thread sends is *collected* in the channel's writer. It is written when the handler has
used up the mail that was read and receives more, when it asks something of the supervisor, cancels or terminates, when it ends
however it does, and over `MAX_COLLECTED` bytes; and by the `flusher` if it does not come back. Only one channel collects at a
time: a message on the other one has it written first. So all that a process sends is written in the order in which it was sent,
over both channels (S6).

Other threads, and signal handlers that interrupt a wait, would wait for a handler that does not come: what they send is
written at once, behind what is collected.
"""

from __future__ import annotations

from typing import Any, NoReturn, Protocol

from ..core.outgoing import Frames
from .asynchronous import OUT as SENT
from .asynchronous import AsyncPort
from .channels import Duplex
from .flusher import Flusher
from .writer import OUT, Outgoing


class Owner(Protocol):
    """What the outbox needs of the runtime."""

    control: Duplex
    data: Duplex | None
    port: AsyncPort | None

    @property
    def in_handler_thread(self) -> bool:
        """Whether the caller is the thread that runs the handler."""

    @property
    def waiting(self) -> bool:
        """Whether the handler waits, so that the caller is a signal handler."""

    def lost(self) -> NoReturn:
        """The control channel is gone."""


class Outbox:
    """The way out of one process."""

    def __init__(self, owner: Owner, *, coalescing: bool) -> None:
        """`coalescing` is what the host is configured to."""
        self._owner = owner
        self._usual = coalescing
        self.coalescing = coalescing
        """Whether sends are collected. `set_coalescing` changes it."""
        self._scheduled = False
        self._flusher = Flusher(lambda: bool(self._unwritten()), self._flush_unasked)

    def set_coalescing(self, coalescing: bool) -> None:
        """Collect from now on, or write what is collected and collect no more."""
        self.flush()
        self.coalescing = coalescing

    def reset(self) -> None:
        """The process is over; the next one in this worker begins as the host is configured (S57)."""
        self.set_coalescing(self._usual)

    # --- sending ------------------------------------------------------------------------------------------------------

    def send(self, channel: Duplex, frame: bytes) -> Any:
        """Send one frame of a message. When this returns, or what it returns has been awaited, it has left this process
        (S7), unless it is collected."""
        outgoing = self._put(channel, frame) if self.coalescing else channel.writer.write(frame)
        owner = self._owner
        if owner.control.writer.broken:
            owner.lost()
        if owner.port is not None and owner.in_handler_thread:
            return SENT if outgoing is OUT else owner.port.sent([(channel, outgoing)])
        if outgoing is not OUT:
            channel.writer.wait(outgoing)
        return None

    def send_frames(self, frames: Frames, data: Duplex | None) -> Any:
        """Send the frames of a message; `data` is the channel that they were made for. As `send`."""
        return self._post(frames, data, self._put)

    def post(self, frames: Frames, data: Duplex | None) -> Any:
        """Write frames, behind what is collected. As `send`, but they are never collected."""
        self.flush()
        return self._post(frames, data, lambda channel, frame: channel.writer.write(frame))

    def _post(self, frames: Frames, data: Duplex | None, put: Any) -> Any:
        owner = self._owner
        unsent: list[tuple[Duplex, Outgoing]] = []
        for channel, frame in ((owner.control, frames.control), (data, frames.data)):
            if frame is not None and channel is not None:
                outgoing = put(channel, frame)
                if not channel.writer.is_out(outgoing):
                    unsent.append((channel, outgoing))
        if owner.control.writer.broken:
            owner.lost()
        if owner.port is not None and owner.in_handler_thread:
            return owner.port.sent(unsent)
        for channel, outgoing in unsent:
            channel.writer.wait(outgoing)
        return None

    def _put(self, channel: Duplex, frame: bytes) -> Outgoing:
        """Collect a frame, or write it."""
        owner = self._owner
        if not self.coalescing:
            return channel.writer.write(frame)
        if owner.waiting or not owner.in_handler_thread:
            self._flush_unasked()
            return channel.writer.write(frame)
        other = owner.data if channel is owner.control else owner.control
        if other is not None and other.writer.collected:
            self._write(other)
        outgoing = channel.writer.collect(frame)
        self._flusher.collecting()
        if owner.port is not None and not self._scheduled:
            self._scheduled = True
            owner.port.call_soon(self._scheduled_flush)
        return outgoing

    # --- what is collected --------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what is collected: an async handler's loop writes what cannot be written now, another handler waits."""
        if self.coalescing:
            owner = self._owner
            self._flusher.flushes += 1
            if owner.data is not None and owner.data.writer.collected:
                self._write(owner.data)
            if owner.control.writer.collected:
                self._write(owner.control)
            if owner.control.writer.broken:
                owner.lost()

    def _unwritten(self) -> list[Duplex]:
        owner = self._owner
        return [each for each in (owner.control, owner.data) if each is not None and not each.writer.idle]

    def _flush_unasked(self) -> None:
        for channel in self._unwritten():
            channel.writer.flush()

    def close_in_fork(self) -> None:
        """This is a forked child: it has no channel (S11)."""
        self._flusher.close_in_fork()

    def _write(self, channel: Duplex) -> None:
        owner = self._owner
        if channel.writer.flush():
            return
        if owner.port is not None and owner.in_handler_thread:
            owner.port.sent([(channel, channel.writer.last_queued)])
        else:
            channel.writer.finish()

    def _scheduled_flush(self) -> None:
        self._scheduled = False
        self.flush()
