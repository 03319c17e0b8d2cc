"""The runtime's side of a worker process: reads its channels into the mailbox, writes its frames, waits.

One object for each process, which holds the channels, the mailbox and the requests under way, and does what the core decides.
`process` is the face of it. Waiting blocks here; while an async handler runs, an `AsyncPort` waits instead.

Only the thread that runs the handler reads. Every thread may send.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from threading import get_ident
from typing import Any, NoReturn

from ...kernel.wire import messages as wire
from ...kernel.wire.channel import SOCKET_BUFFER, Channel
from ...kernel.wire.errors import ChannelLost, Invalid, ProcessError, ProtocolViolation, Timeout
from ...kernel.wire.pid import Pid
from ...kernel.wire.reason import EXCEPTION, LIMIT_MAILBOX, WireReason, make_reason
from ..core.assignment import Assignment
from ..core.items import Item
from ..core.mailbox import Mailbox
from ..core.outgoing import Frames, frame
from ..core.requests import Answer, Requests, value_of
from ..core.streams import Stream, Topic
from .asynchronous import AsyncPort
from .channels import READ_SIZE, Duplex, control_channel, data_channel
from .outbox import Outbox
from .poller import POLLOUT, Poller
from .shield import Shield
from .upgrading import hand_over, take_over

_LAST_WORD_PATIENCE = 5.0
"""Seconds for the report of a process that is over its limit."""

_LOOK_READS = 2 * SOCKET_BUFFER // READ_SIZE

Make = Callable[[int], tuple[Any, ...]]
Finish = Callable[[int, Any], Any]


class Runtime:
    """What a worker process is to the rest of the runtime."""

    control: Duplex
    _poller: Poller

    def __init__(self, *, watched: bool = False, coalescing: bool = False) -> None:
        """`watched` says that the worker must give signs of life (S17), `coalescing` that sends are collected if the handler
        does not say otherwise.

        It is made in the fork server, so that all workers share what of it they do not change, and is used from `begin` on,
        in the worker.
        """
        self.data: Duplex | None = None
        self.mailbox = Mailbox()
        self.requests = Requests()
        self.pid = Pid("")
        """Empty in a function worker between invocations: then nothing is received."""
        self.start: wire.Start | None = None
        self.assignment = Assignment()
        """The invocation of a function worker."""
        self.cpu_used = 0
        """Milliseconds of CPU time that the process had used before it was upgraded to this code (S35)."""
        self.watched = watched
        self.port: AsyncPort | None = None
        """Set while an async handler runs."""
        self.outbox = Outbox(self, coalescing=coalescing)
        self.forked = False
        self._shield = Shield()
        self._thread = 0
        self._waits = 0
        """How many waits are under way: more than one if a signal handler waits too."""
        self._on_control: dict[type, Callable[[Any], None]] = {
            wire.Start: self._handle_start,
            wire.Resume: self._handle_resume,
            wire.HandOver: self._handle_hand_over,
            wire.OpenData: self._handle_open_data,
            wire.Deliver: self._handle_signal,
            wire.Exit: self._handle_signal,
            wire.LinkDown: self._handle_signal,
            wire.CancelSignal: self._handle_signal,
            wire.Reply: self.requests.answered,
            wire.Failed: self.requests.answered,
            wire.Members: self.requests.answered,
            wire.Executed: self.requests.answered,
            wire.GroupChanged: self._handle_signal,
            wire.Invoke: self._handle_invoke,
            wire.Probe: self._handle_probe,
        }

    def begin(self, control_end: socket.socket) -> None:
        """This is the worker, and this its end of its control channel."""
        self.control = control_channel(control_end)
        self._poller = Poller()
        self._thread = get_ident()

    def enter_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """This loop waits for an async handler. A signal wakes it too: then Python runs the handlers that are due."""
        self.port = AsyncPort(self, loop)
        loop.add_reader(self._poller.woken, self._poller.calm)

    def leave_loop(self) -> None:
        """No event loop runs any more: this waits by itself."""
        self.port = None
        if not self.forked:
            self._poller.hear_signals()

    # --- reading ------------------------------------------------------------------------------------------------------

    def read_control(self) -> None:
        """Read once from the supervisor. Ends this process if the supervisor is gone or its mail is over its bound."""
        self._read(self.control.reader, lambda record: self._on_control[type(record)](record))
        if self.control.over:
            self.lost()
        if self.mailbox.overflown:
            detail = f"more than {self.mailbox.limit} bytes of mail from other processes were unread"
            self.end_at_once(make_reason(LIMIT_MAILBOX, detail))

    def look(self) -> None:
        """The handler has come back, and may find mail without waiting: if it must give signs of life, read whether the
        supervisor has asked for one (S17). All that the socket can hold is read, because that may be ahead of the question."""
        if self.watched and not self._shield.active:
            for _ in range(_LOOK_READS):
                self.read_control()
                if self.control.reader.starved:
                    break

    def read_data(self) -> None:
        """Read once from the gateway."""
        data = self.data
        if data is not None:
            actor = self.start is not None and self.start.pid
            self._read(data.reader, self.mailbox.read_data if actor else self._handle_data)
            if data.over and data is self.data:
                with self._shield:
                    self._close_data()

    def _read(self, reader: Channel, handle: Callable[[tuple[Any, ...]], None]) -> None:
        self.require_no_reading()
        try:
            with self._shield:
                for record in reader.receive(READ_SIZE):
                    handle(record)
        except BaseException as error:
            if self._shield.torn:  # what was read and not kept is a hole in a stream: end rather than go on (S43)
                detail = f"{type(error).__name__} while mail was being read: {error}"
                self.end_at_once(make_reason(EXCEPTION, detail))
            raise

    def require_no_reading(self) -> None:
        """Raise Invalid in a signal handler that interrupts the reading of mail."""
        if self._shield.active:
            raise Invalid("a signal handler has interrupted the reading of mail: it may send, but not wait")

    def _handle_start(self, start: wire.Start) -> None:
        self.start = start
        self.pid = Pid(start.pid)
        self.mailbox.limit = start.mailbox

    def _handle_resume(self, resume: wire.Resume) -> None:
        self._handle_start(resume.start)
        try:
            take_over(self, self.control.reader.take_descriptor())
        except Exception as error:
            self.end_at_once(make_reason(EXCEPTION, f"what the old code has left cannot be read: {error}"))

    def _handle_hand_over(self, record: wire.HandOver) -> None:
        try:
            hand_over(self, self.control.reader.take_descriptor())
        except Exception as error:
            self.end_at_once(make_reason(EXCEPTION, f"not handed over to the new code: {error}"))

    def _handle_signal(
        self, signal: wire.Deliver | wire.Exit | wire.LinkDown | wire.CancelSignal | wire.GroupChanged
    ) -> None:
        if not self.pid:
            return  # for an invocation that has ended
        if isinstance(signal, wire.Deliver):
            self.mailbox.deliver(signal)
        elif isinstance(signal, wire.CancelSignal):
            self.mailbox.cancel(signal)
        elif isinstance(signal, wire.GroupChanged):
            self.mailbox.group_changed(signal)
        else:
            self.mailbox.notify(signal)

    def _handle_invoke(self, invoke: wire.Invoke) -> None:
        self.mailbox.reset()
        self.assignment.begin(invoke, self.mailbox.gateway)
        self.pid = Pid(invoke.pid)

    def _handle_probe(self, probe: wire.Probe) -> None:
        with contextlib.suppress(ProcessError):  # too much is unsent, or this is the end
            outgoing = self.control.writer.write(frame(wire.Alive(probe.number)))
            if self.port is not None:
                self.port.sent([(self.control, outgoing)])

    def end_invocation(self) -> None:
        """The invocation is over: nothing is received until the next (S57)."""
        self.outbox.reset()
        with self._shield:
            self.pid = Pid("")
            self.assignment.end()
            self.mailbox.reset()

    def _handle_open_data(self, record: wire.OpenData) -> None:
        try:
            descriptor = self.control.reader.take_descriptor()
        except (OSError, ProtocolViolation) as error:
            self.end_at_once(make_reason(EXCEPTION, f"no data channel: {error}"))
        if self.data is not None:
            for earlier in self.data.reader.drain():
                self._handle_data(earlier)
            self._close_data()
        self.data = data_channel(socket.socket(fileno=descriptor), record.gateway)
        self.mailbox.open_data(record.gateway)
        if self.port is not None:
            self.port.update()

    def _handle_data(self, record: tuple[Any, ...]) -> None:
        if isinstance(record, wire.Request):
            self.mailbox.skip_data()
            self.assignment.receive(record, self.mailbox.gateway)
        elif self.start is not None and not self.start.pid and self.assignment.request is None:
            self.mailbox.skip_data()  # for an invocation that has ended
        else:
            self.mailbox.read_data(record)

    def _close_data(self) -> None:
        if self.data is not None:
            if self.port is not None:
                self.port.forget(self.data)
            self.data.close()
            self.data = None
            self.mailbox.end_data()

    # --- waiting ------------------------------------------------------------------------------------------------------

    def wait(self, deadline: float | None = None, *, with_control: bool = True, with_data: bool = True) -> bool:
        """Block until something was read, and read it. Returns whether anything happened before `deadline`.

        `deadline` is on the monotonic clock. Unsent frames are written meanwhile.
        """
        data = self.data
        reads_data = data is not None and with_data and self.mailbox.wants_data
        ready = self._poller.poll(self.control, with_control, data, reads_data, deadline)
        for descriptor, what in ready:
            channel = self.control if descriptor == self.control.fileno() else self.data
            if channel is None or channel.fileno() != descriptor:
                continue  # it was a wake, or the other one has replaced it
            if what & POLLOUT:
                channel.writer.flush()
            if what & ~POLLOUT:
                if channel is self.control:
                    self.read_control()
                else:
                    self.read_data()
        return bool(ready)

    def receive(self, stream: Stream | Topic, timeout: float | None) -> Item:
        """Block until there is an item. Raises Timeout after `timeout` seconds."""
        if self.watched:
            self.look()
        item = self.mailbox.take(stream)
        return self._await_item(stream, timeout) if item is None else item

    def _await_item(self, stream: Stream | Topic, timeout: float | None) -> Item:
        deadline = None if timeout is None else time.monotonic() + timeout
        waits = self._waits
        try:
            self._waits = waits + 1
            self.come_back()  # what a signal handler has sent just before
            while (item := self.mailbox.take(stream)) is None:
                if not self.wait(deadline) and deadline is not None and time.monotonic() >= deadline:
                    raise Timeout(f"nothing came within {timeout:g} s")
        finally:
            self._end_wait(waits)
        return item

    def _end_wait(self, waits: int) -> None:
        """A wait is over. If it was a signal handler's, what that interrupted sleeps on, though it may have an item or an
        answer now: wake it."""
        self._waits = waits
        if waits:
            self._poller.wake()

    # --- sending ------------------------------------------------------------------------------------------------------

    @property
    def in_handler_thread(self) -> bool:
        """Whether the caller is the thread that runs the handler."""
        return get_ident() == self._thread

    def require_handler_thread(self) -> None:
        """Raise Invalid in any other thread than the handler's."""
        if get_ident() != self._thread:
            raise Invalid("only the handler's thread may do this; other threads may send to PIDs")

    @property
    def waiting(self) -> bool:
        """Whether the handler waits: then a caller in its thread is a signal handler."""
        return self._waits > 0

    def come_back(self) -> None:
        """The handler has come back to the library: what is collected is written (S7)."""
        if self.outbox.coalescing:
            self.outbox.flush()

    def post(self, frames: Frames, data: Duplex | None) -> Any:
        """Write frames; `data` is the channel that they were made for. When this returns, or what it returns has been
        awaited, they have left this process (S7)."""
        return self.outbox.post(frames, data)

    def request(self, make: Make, finish: Finish, settle: Callable[[], None] | None = None) -> Any:
        """Ask the supervisor and return `finish(request, value)`; raises the error it answers.

        `settle` is called when the answer is read, before anything that was written after it.
        """
        self.require_handler_thread()
        if self.port is not None:
            return self.port.request(make, finish, settle)
        answers: list[Answer] = []
        waits = self._waits
        try:
            self._waits = waits + 1
            request = self.open_request(make, answers.append, settle)
            while not answers:
                self.wait(with_data=False)
        finally:
            self._end_wait(waits)
        return finish(request, value_of(answers[0]))

    def open_request(self, make: Make, on_answer: Callable[[Answer], None], settle: Callable[[], None] | None) -> int:
        """Write a request and return its id. `on_answer` is called when the answer is read."""

        def answered(answer: Answer) -> None:
            if settle is not None:
                settle()
            on_answer(answer)

        self.come_back()
        request = self.requests.open(answered)
        try:
            outgoing = self.control.writer.write(frame(make(request)))
        except ProcessError:
            self.requests.withdraw(request)
            raise
        if self.control.writer.broken:
            self.lost()
        if self.port is None:
            self.control.writer.wait(outgoing)
        else:
            self.port.sent([(self.control, outgoing)])
        return request

    def change_mailbox(self, change: Callable[[Mailbox], None]) -> None:
        """Change the mailbox without a signal handler in between. Raises Invalid in one that interrupts the reading."""
        self.require_no_reading()
        with self._shield:
            change(self.mailbox)
        if self.port is not None:
            self.port.wake()
        elif self._waits:  # this is a signal handler: what it interrupts looks again
            self._poller.wake()

    # --- the end ------------------------------------------------------------------------------------------------------

    def lost(self) -> NoReturn:
        """The supervisor has closed the control channel: it is gone, or about to kill this process."""
        if self.forked:
            raise ChannelLost("a forked child has no channel to the runtime")
        os._exit(1)

    def end_at_once(self, reason: WireReason) -> NoReturn:
        """Report an end that the library decides, and end without running any more of the handler."""
        try:
            if self.data is not None:
                self.data.writer.flush()
            outgoing = self.control.writer.write(frame(wire.ExitReport(reason)), last=True)
            self.control.writer.wait(outgoing, time.monotonic() + _LAST_WORD_PATIENCE)
        finally:
            os._exit(1)

    def flush(self) -> None:
        """Block until everything that was sent has left this process."""
        for channel in (self.data, self.control):
            if channel is not None:
                channel.writer.finish()

    def report(self, reason: WireReason, target: str | None = None) -> None:
        """Write the exit report, the last frame on control, behind everything else."""
        self.flush()
        writer = self.control.writer
        writer.wait(writer.write(frame(wire.ExitReport(reason, target)), last=True))

    def end(self) -> None:
        """Close the channels, and all that belongs to them."""
        for channel in (self.control, self.data):
            if channel is not None:
                channel.close()
        self._poller.close()

    def close_in_fork(self) -> None:
        """This is a forked child: it has no channel (S11)."""
        self.forked = True
        for channel in (self.control, self.data):
            if channel is not None:
                channel.close_in_fork()
        self.outbox.close_in_fork()
        self._poller.close()
