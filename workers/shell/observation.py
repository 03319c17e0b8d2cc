"""A worker that is watched by a test: it keeps a journal of what it sends and receives, and stops at failpoints.

`WorkerRuntime` is what a worker is made with: the plain runtime, unless the environment asks for a journal or names a
controller of failpoints. What is written are sizes, topics and PIDs; never what is in a message.
"""

from __future__ import annotations

from typing import Any, Final

from ...kernel.wire import failpoints, journal
from ...kernel.wire import journal_records as j
from ...kernel.wire import messages as wire
from ...kernel.wire.codec import FrameDecoder
from ...kernel.wire.failpoints import failpoint
from ...kernel.wire.reason import WireReason
from ..core.connections import Connection
from ..core.items import Item
from ..core.mailbox import Mailbox
from ..core.outgoing import Frames
from ..core.streams import Stream, Topic
from ..core.unread import EventRecord
from .channels import Duplex
from .outbox import Outbox
from .runtime import Runtime


class ObservedMailbox(Mailbox):
    """What is pushed is readable, what is taken is the handler's: both are written down."""

    pid = ""
    _waits = ""
    """What the handler waits for, as it was written."""

    def take(self, stream: Stream | Topic) -> Item | None:
        """Journaled."""
        item = super().take(stream)
        if item is not None:
            failpoint("message.handed")
            kind = type(item).__name__
            what = {"Message": "message", "Exit": "EXIT", "LinkDown": "LINK_DOWN", "Cancel": "CANCEL"}.get(
                kind, "GROUP"
            )
            sender, topic = getattr(item, "sender", ""), getattr(item, "topic", "")
            journal.write(j.Taken(self.pid, what, sender, topic))
            self._waits = ""
            return item
        name = stream.value if isinstance(stream, Stream) else "listen"
        if self._waits != name:
            self._waits = name
            journal.write(j.Waiting(self.pid, name))
        return None

    def listen(self, topic: str) -> None:
        """Journaled."""
        super().listen(topic)
        journal.write(j.Listened(self.pid, topic))

    def unlisten(self, topic: str) -> None:
        """Journaled."""
        super().unlisten(topic)
        self._waits = ""
        journal.write(j.Unlistened(self.pid, topic))

    def _push(self, size: int, connection: Connection | None, record: tuple[Any, ...]) -> None:
        super()._push(size, connection, record)
        if connection is None:
            if isinstance(record, wire.Deliver):
                self._readable("message", record.sender, topic=record.topic, size=len(record.payload))
        else:
            topic, kind = _topic(record)
            data = len(record.data) if isinstance(record, wire.ClientMessage) else 0
            self._readable("message", connection.pid, topic=topic, size=data, kind=kind, epoch=self.gateway)
        failpoint("message.read")

    def _push_event(self, record: EventRecord) -> None:
        super()._push_event(record)
        if isinstance(record, wire.Exit):
            self._readable("EXIT", record.pid, ref=record.ref, kind=record.reason.kind)
        elif isinstance(record, wire.LinkDown):
            self._readable("LINK_DOWN", record.pid, kind=record.reason.kind)
        elif isinstance(record, wire.CancelSignal):
            self._readable("CANCEL", record.sender)
        else:
            self._readable("GROUP", record.pid, ref=record.ref, kind="joined" if record.joined else "left")

    def _readable(
        self, what: str, sender: str, *, topic: str = "", size: int = 0, ref: int = 0, kind: str = "", epoch: int = 0
    ) -> None:
        self._waits = ""
        journal.write(j.Readable(self.pid, self._arrivals, what, sender, topic, size, ref, kind, epoch))


def _topic(record: tuple[Any, ...]) -> tuple[str, str]:
    """The topic that a frame of the gateway is journaled under, and the kind that goes with it."""
    if isinstance(record, wire.Join):
        return "ws.join", "resumed" if record.resumed else ""
    if isinstance(record, wire.Leave):
        return "ws.leave", record.reason
    if isinstance(record, wire.Heartbeat):
        return "ws.heartbeat", ""
    if isinstance(record, wire.ControlError):
        return "ws.control_error", ""
    return "ws.message", ""


class ObservedOutbox(Outbox):
    """What is sent on control is journaled before it is written: what nobody has noted cannot be received."""

    pid = ""

    def send(self, channel: Duplex, frame: bytes) -> Any:
        """Journaled."""
        if channel is self._owner.control:
            self._note(frame)
        return super().send(channel, frame)

    def send_frames(self, frames: Frames, data: Duplex | None) -> Any:
        """Journaled."""
        self._note(frames.control)
        return super().send_frames(frames, data)

    def post(self, frames: Frames, data: Duplex | None) -> Any:
        """Journaled."""
        self._note(frames.control)
        return super().post(frames, data)

    def _note(self, frame: bytes | None) -> None:
        if journal.ON and frame is not None:
            for record in FrameDecoder(wire.WORKER_TO_SUPERVISOR).decode(frame):
                if isinstance(record, wire.Send):
                    journal.write(j.Sent(self.pid, record.destinations, record.topic, len(record.payload)))


class ObservedRuntime(Runtime):
    """The runtime of a worker, observed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.mailbox: ObservedMailbox = ObservedMailbox()
        self.outbox: ObservedOutbox = ObservedOutbox(self, coalescing=self.outbox.coalescing)

    def _handle_start(self, start: wire.Start) -> None:
        super()._handle_start(start)
        self.mailbox.pid = self.outbox.pid = start.pid
        failpoint("spawn.started")

    def _handle_resume(self, resume: wire.Resume) -> None:
        super()._handle_resume(resume)
        failpoint("upgrade.resumed")

    def _handle_invoke(self, invoke: wire.Invoke) -> None:
        super()._handle_invoke(invoke)
        self.mailbox.pid = self.outbox.pid = invoke.pid

    def report(self, reason: WireReason, target: str | None = None) -> None:
        """Stop at the failpoint behind it."""
        super().report(reason, target)
        failpoint("exit.report.written")


WorkerRuntime: Final[type[Runtime]] = ObservedRuntime if journal.ON or failpoints.ON else Runtime
"""What a worker is made with."""
