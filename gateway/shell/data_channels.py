"""The data channels: one to each worker.

Owns the sockets, their bounded queues, and the pressure that a worker which does not read puts on its clients (S53). Knows
nothing of WebSockets: whoever is bound to a worker is a `Member`. A frame that a worker should not have written is reported
to the supervisor and ends the channel (S11).
"""

from __future__ import annotations

import asyncio
import logging
import math
import select
import socket
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from ...kernel.wire.channel import Channel
from ...kernel.wire.client_frames import PlainSend, SendDecoder, add_messages
from ...kernel.wire.messages import WORKER_TO_GATEWAY, ReportLost, ReportViolation
from ..core.counts import HighWater
from .kernel_link import KernelLink
from .turn import Turn

logger = logging.getLogger("wsrelay.gateway")

_MAX_DRAIN = 256
"""Reads of one drain: many times what a socket holds."""
_OVERLOAD = 2
"""A worker with this many times its limit unread is joined by no further client: joins are not held back by pressure."""
_EOF_GRACE = 0.1
"""Seconds between the end of a channel and the fence of its worker: an ordinary death is told meanwhile (S13)."""
_AT_ONCE = 256
"""Clients that are let go on in one turn: some milliseconds' work, if all they have sent is pings."""
_FLOOD = 8
"""A worker with this many times its limit unread, which makes us answer still more, is broken."""


class Member(Protocol):
    """A client connection whose messages go to a worker."""

    @property
    def reads(self) -> bool:
        """Whether the client's bytes are being read."""

    def pause_for_target(self) -> None:
        """Read nothing more: the worker's queue is full."""

    def resume_for_target(self) -> None:
        """Go on with what is here, and read on. `pause_for_target` may be called meanwhile."""


class WorkerLink:
    """The gateway's end of one worker's data channel."""

    def __init__(self, workers: Workers, number: int, pid: str, end: socket.socket) -> None:
        self.number = number
        self.pid = pid
        """The process that the worker is; a function worker's is that of its invocation."""
        self.members: dict[int, Member] = {}
        """Connections bound to this worker, by serial. Who has sent a message comes last: who was served least lately is first."""
        self.congested = False
        self.relieved_at = -math.inf
        """When clients could last go on after they had been held up, in the loop's time."""
        self.drains = 0
        """How often the queue has been written out: what was queued before has left when this has grown."""
        self.died_at = 0.0
        """When the supervisor noticed that the worker is dead (CLOCK_MONOTONIC); 0 while it lives."""
        self._workers = workers
        self._channel = Channel(end, WORKER_TO_GATEWAY, decoder=SendDecoder)
        self._closed = False
        self._pieces: list[bytes] = []
        """What this turn has collected for the channel."""
        self._collected = 0
        """Bytes of it."""
        self._count = 0
        """Frames of it."""
        self._marked = False
        self._writing = False
        self._reading = True
        self._fence: asyncio.TimerHandle | None = None
        self._held_up: deque[int] = deque()
        """Members who are still to go on, while the worker is no longer congested."""
        self._next: asyncio.Handle | None = None
        """While it is set, somebody who was held up is still to go on, or to be read for the first time since."""
        self._behind: set[int] = set()
        """Members who have sent a message since all had a turn, or who came while others were held up: these are before them."""
        workers.loop.add_reader(end.fileno(), self._readable)

    @property
    def is_open(self) -> bool:
        """Whether frames written now can still be read by the worker."""
        return self._channel.fileno() >= 0 and not self._channel.broken

    @property
    def frames_sent(self) -> int:
        """The mark of this channel (S14)."""
        return self._channel.frames_sent + self._count

    @property
    def pending(self) -> int:
        """Bytes queued and not written."""
        return self._channel.pending + self._collected

    @property
    def overloaded(self) -> bool:
        """Whether the worker has so much unread that no client may join it."""
        return self.pending > _OVERLOAD * self._workers.limit

    def bind(self, serial: int, member: Member) -> None:
        """Make a client a member. Where others are still to go on, it waits behind them."""
        self.members[serial] = member
        if self.congested or self._next is not None:
            member.pause_for_target()
            self._behind.add(serial)
            if not self.congested:
                self._held_up.append(serial)

    def unbind(self, serial: int) -> None:
        """Forget a client."""
        self.members.pop(serial, None)
        self._behind.discard(serial)

    def send(self, record: tuple[Any, ...]) -> None:
        """Queue a record. If the worker is gone it is dropped: its death notice is on the way (S8)."""
        if not self._closed:
            self._commit()
            self._channel.send(record)
            self._mark()

    def send_message(self, serial: int, record: tuple[Any, ...]) -> None:
        """Queue a record that is a message of this client, or goes before them."""
        self._serve(serial)
        self.send(record)

    def send_messages(self, serial: int, prefix: bytes, messages: Sequence[tuple[int, bytes]]) -> None:
        """Queue a ClientMessage for each: opcode and payload. `prefix` is that of the connection (`message_prefix`)."""
        if not self._closed:
            self._serve(serial)
            self._collected += add_messages(self._pieces, prefix, messages)
            self._count += len(messages)
            self._mark()

    def _mark(self) -> None:
        if not self._marked:
            self._marked = True
            self._workers.turn.mark(self)
        pending = self._channel.pending + self._collected  # as the property says, without a call
        if pending > self._workers.limit and not self.congested:
            self._flush()
            if self.pending > self._workers.limit:
                self._workers.stalls += 1
                self._congest()

    def _commit(self) -> None:
        """Hand on what was collected."""
        if self._pieces:
            pieces, count = self._pieces, self._count
            self._pieces, self._collected, self._count = [], 0, 0
            self._channel.send_frame(b"".join(pieces), count=count)

    def send_reply(self, record: tuple[Any, ...]) -> None:
        """Queue an answer to something the worker wrote; one that asks and never reads is reported (S10)."""
        self.send(record)
        if self.pending > _FLOOD * self._workers.limit:
            self.report("it floods its data channel and does not read")

    def _serve(self, serial: int) -> None:
        """It is this client's turn: the next is that of all others."""
        member = self.members.pop(serial, None)
        if member is not None:
            self.members[serial] = member
            self._behind.add(serial)

    def _congest(self) -> None:
        self.congested = True
        self._held_up.clear()
        self._stop_resuming()
        for member in list(self.members.values()):
            member.pause_for_target()

    def _relieve(self) -> None:
        self.congested = False
        self.relieved_at = self._workers.loop.time()
        self._held_up = deque(self.members)
        self._resume()

    def _resume(self) -> None:
        """Let one member after the other go on, until one has congested the link again: who was not reached, comes first the next
        time. Who has something here, hands it over at once. Who has not is read once before those go on who have had a turn that he
        had not: in which order the loop reads its sockets is its own affair, and his turn might be none."""
        self._stop_resuming()
        resumed, somebody_reads = 0, False
        while self._held_up:
            serial = self._held_up[0]
            member = self.members.get(serial)
            if member is not None:
                behind = serial in self._behind
                if ((behind and somebody_reads) or resumed == _AT_ONCE) and not self._closed:
                    break
                if behind:
                    self._behind.clear()  # all the others have had their turn
                resumed += 1
            self._held_up.popleft()
            if member is not None:
                member.resume_for_target()
                somebody_reads = somebody_reads or member.reads
        if resumed and not self.congested:
            self._next = self._workers.loop.call_soon(self._resume_after_reading)

    def _resume_after_reading(self) -> None:
        """The loop looks at the sockets between this callback and the next."""
        self._next = self._workers.loop.call_soon(self._resume)

    def _stop_resuming(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def flush_turn(self) -> None:
        """Write what this turn has queued."""
        self._marked = False
        if self._writing:
            self._commit()  # small pieces take many times as much memory as their bytes
        else:
            self._flush()

    def _flush(self) -> None:
        if self._closed:
            return
        self._commit()
        if self._writing:
            self._workers.high_water.note(self.pending)
        done = self._channel.flush()
        if not done:
            self._workers.high_water.note(self.pending)
        if self._channel.broken:
            self._await_death()
        if done:
            self.drains += 1
        if done == self._writing:
            if done:
                self._workers.loop.remove_writer(self._channel.fileno())
            else:
                self._workers.loop.add_writer(self._channel.fileno(), self._flush)
            self._writing = not done
        if self.congested and self._fence is None and self.pending <= self._workers.limit // 2:
            self._relieve()

    def _readable(self) -> None:
        """Read once: the loop comes back if there is more, after everybody else had a turn."""
        records = self._channel.receive()
        self._workers.turn.begin_read()
        try:
            self._handle(records)
        finally:
            self._workers.turn.end_read()
        if self._closed:
            return
        if self._channel.violation is not None:
            self.report(str(self._channel.violation))
        elif self._channel.ended:
            self._stop_reading()
            self._await_death()

    def _handle(self, records: list[tuple[Any, ...]]) -> None:
        on_send = self._workers.on_send
        for record in records:
            try:
                if type(record) is tuple:
                    on_send(record)
                else:
                    self._workers.on_record(self, record)
            except Exception:
                logger.exception("a record of worker %d could not be handled", self.number)
                self.report("a record could not be handled")  # fenced: a stream with a hole is worse (S43)
            if self._closed:
                return

    def _await_death(self) -> None:
        """The worker's end is closed. Its death will be told; if not, it is fenced, for its streams have a hole (S43).
        Until then nothing more is read for it: what it is not handed may be another's (S56)."""
        if self._fence is None:
            self._fence = self._workers.loop.call_later(_EOF_GRACE, self._report_lost)
            self._congest()

    def _report_lost(self) -> None:
        if self._channel.fileno() >= 0:
            self._workers.kernel.send(ReportLost(self.number, "its data channel ended"))

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._workers.loop.remove_reader(self._channel.fileno())

    def drain(self) -> None:
        """Handle all that the worker has written (S14): read the raw socket until it would block or ends."""
        poll = select.poll()
        if self._channel.fileno() >= 0:
            poll.register(self._channel.fileno(), select.POLLIN)
        for _ in range(_MAX_DRAIN):
            if self._channel.fileno() < 0 or self._channel.ended or not poll.poll(0):
                return
            self._readable()

    def report(self, detail: str) -> None:
        """The worker broke the protocol (S11): tell the supervisor, end the channel, and read nothing more for it."""
        if self._channel.fileno() >= 0:
            self._workers.kernel.send(ReportViolation(self.number, detail))
            self.close()
            self._congest()

    def close(self) -> None:
        """Close the channel."""
        if self._closed:
            return
        self._closed = True
        self._pieces, self._collected, self._count = [], 0, 0
        self._stop_reading()
        if self._fence is not None:
            self._fence.cancel()
        if self._writing:
            self._workers.loop.remove_writer(self._channel.fileno())
            self._writing = False
        self._channel.close()

    def release(self) -> None:
        """Let the clients that it held up go on: its death has been told."""
        if self.congested or self._held_up:
            self._relieve()


class Workers:
    """All data channels."""

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: Turn, kernel: KernelLink) -> None:
        self.loop = loop
        self.turn = turn
        self.kernel = kernel
        self.limit = 1 << 20
        """Bytes that may be queued for one worker before its clients are no longer read: the least `limits.inbound`."""
        self.on_record: Callable[[WorkerLink, tuple[Any, ...]], None] = lambda link, record: None
        self.high_water = HighWater()
        """Of the bytes that wait for one worker."""
        self.stalls = 0
        """How often a queue was full."""
        self.on_send: Callable[[PlainSend], None] = lambda send: None
        self._links: dict[int, WorkerLink] = {}

    def open(self, number: int, pid: str, descriptor: int) -> None:
        """Take over the channel of a new worker."""
        self._links[number] = WorkerLink(self, number, pid, socket.socket(fileno=descriptor))

    def get(self, number: int) -> WorkerLink | None:
        """Return the channel of a worker that has not ended."""
        return self._links.get(number)

    def links(self) -> Collection[WorkerLink]:
        """All channels."""
        return self._links.values()

    def remove(self, number: int) -> None:
        """Forget a worker that has ended, after its channel was drained."""
        link = self._links.pop(number, None)
        if link is not None:
            link.close()
            link.release()
