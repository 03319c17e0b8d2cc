"""What has been read and not yet taken: mail and events, in an order that keeps every promise about order.

Two queues, one count of arrivals. A notice (EXIT, LINK_DOWN) may have to wait for the data channel: it is *held* until that
has been read as far as the notice's mark says, or has ended (S14). A notice behind a held one of the same sender waits too.
Reading the data channel stops while much of its mail is unread, unless a held notice needs it (S10).

Mail of a topic that the handler listens to stands in a queue of its own, and counts like all other.

Pure: the shell says what was read, and asks what to read and what is there. A signal handler may take in the midst of a
take, so each take is one step on one queue.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Any

from ...kernel.wire import messages as wire
from ...kernel.wire.messages import ClientMessage, Heartbeat
from ...kernel.wire.pid import Pid
from .connections import Connection, Connections, message_of
from .items import (
    Cancel,
    Exit,
    GroupJoined,
    GroupLeft,
    Item,
    LinkDown,
    Message,
    cancel_reason,
    make_message,
    reason_from_wire,
)
from .packing import unpack
from .streams import NotListening, Stream, Topic
from .traces import Trace
from .unread import Contents, Event, EventRecord, Mail, Notice, Removal, arrival_of, topic_of_mail

DATA_BOUND = 1 << 20
"""Bytes of unread mail from the data channel over which it is not read; under half of it, it is read again."""
MAIL_OVERHEAD = 128
"""Bytes that each message counts beside its content."""
MAX_OBSERVED_DEAD = 65_536
"""PIDs of the dead that are remembered, the latest: sends to them raise NotFound (S8)."""

_INBOX, _BOTH = Stream.INBOX, Stream.BOTH  # an enumeration's members are slow to look up


class Mailbox:
    """The unread mail and events of one process, and how far its data channel has been read."""

    def __init__(self, limit: int = 64 << 20, data_bound: int = DATA_BOUND) -> None:
        """`limit` is in bytes, for unread mail from other workers: over it the process must end (S10)."""
        self.limit = limit
        self._data_bound = data_bound
        self.gateway = 0
        """The incarnation that the data channel leads to; 0 before the first."""
        self.frames = 0
        """Frames read from that channel."""
        self.data_ended = True
        """There is no data channel, or it has been read to its end."""
        self.reset()

    def reset(self) -> None:
        """Forget everything that belongs to the process, for the next one in this worker (S57)."""
        self._arrivals = 0
        self._inbox: deque[Mail] = deque()
        self._listened: dict[str, deque[Mail]] = {}
        """The mail of the topics that are listened to, by topic."""
        self._events: deque[Event] = deque()
        self._held: deque[Notice] = deque()
        self._removals: list[Removal] = []
        self._cancels: set[str] = set()
        self._watches: dict[int, str] = {}
        """The groups that are watched, by ref."""
        self._heartbeats: set[str] = set()
        """The connections of which a heartbeat is unread (S55)."""
        self._connections = Connections()
        self.unread = 0
        """Bytes of unread mail from other workers."""
        self.unread_data = 0
        """Bytes of unread mail from the data channel."""
        self._data_paused = False
        self.observed_dead: dict[str, None] = {}
        """The PIDs whose end the handler has received, oldest first."""
        self.cancel_received = False
        """The handler has received a CANCEL."""

    # --- what was read ------------------------------------------------------------------------------------------------

    @property
    def overflown(self) -> bool:
        """Whether the mail of other workers is over its bound: `limit:mailbox`."""
        return self.unread > self.limit

    def deliver(self, record: wire.Deliver) -> None:
        """A message from a process of the supervisor."""
        size = len(record.payload) + len(record.topic) + MAIL_OVERHEAD
        self.unread += size
        self._push(size, None, record)

    def notify(self, notice: Notice) -> None:
        """An EXIT or a LINK_DOWN."""
        if any(removal.matches(notice) for removal in self._removals):
            return
        self._held.append(notice)
        self._release()

    def cancel(self, signal: wire.CancelSignal) -> None:
        """A CANCEL. At most one of each sender waits (S10)."""
        if signal.sender not in self._cancels:
            self._cancels.add(signal.sender)
            self._push_event(signal)

    def group_changed(self, change: wire.GroupChanged) -> None:
        """A watched group has changed (S33). It counts like mail (S10)."""
        self.unread += MAIL_OVERHEAD
        self._push_event(change)

    def open_data(self, gateway: int) -> None:
        """There is a new data channel. The earlier one, if there was one, has been read to its end."""
        self.end_data()
        self.gateway, self.frames, self.data_ended = gateway, 0, False
        self._release()

    def read_data(self, record: tuple[Any, ...]) -> None:
        """A frame of the data channel."""
        self.frames += 1
        if type(record) is ClientMessage:  # what happens most
            connection, size = self._connections.joined.get(record[0]), MAIL_OVERHEAD + len(record[1])
        else:
            connection, size = self._connections.find(record), MAIL_OVERHEAD
            if type(record) is Heartbeat and connection is not None and self._repeats_heartbeat(connection):
                connection = None
        if connection is not None:
            self.unread_data += size
            self._push(size, connection, record)
        if self._held:
            self._release()

    def _repeats_heartbeat(self, connection: Connection) -> bool:
        """At most one heartbeat of a connection waits (S55): the gateway sees only its own queue."""
        repeated = connection.pid in self._heartbeats
        self._heartbeats.add(connection.pid)
        return repeated

    def trace_of(self, pid: str) -> Trace:
        """Return the trace context of a connection that has joined, or has left not long ago; empty if it has none."""
        return self._connections.traces.of(pid)

    def skip_data(self) -> None:
        """A frame of the data channel that is not for this process: it counts, and no more."""
        self.frames += 1
        self._release()

    def end_data(self) -> None:
        """The data channel has been read to its end, and the gateway with it: every connection leaves (S41)."""
        if self.data_ended:
            return
        self.data_ended = True
        for connection, leave in self._connections.end_all():
            self.unread_data += MAIL_OVERHEAD
            self._push(MAIL_OVERHEAD, connection, leave)
        self._release()

    @property
    def wants_data(self) -> bool:
        """Whether the data channel should be read on (S10, S14)."""
        if self._held:
            return True
        if self._data_paused:
            self._data_paused = self.unread_data > self._data_bound // 2
        else:
            self._data_paused = self.unread_data > self._data_bound
        return not self._data_paused

    def _push(self, size: int, connection: Connection | None, record: tuple[Any, ...]) -> None:
        self._arrivals += 1
        mail = (self._arrivals, size, connection, record)
        queue = self._listened.get(topic_of_mail(mail), self._inbox) if self._listened else self._inbox
        queue.append(mail)

    def _push_event(self, record: EventRecord) -> None:
        self._arrivals += 1
        self._events.append(Event(self._arrivals, record))

    def _release(self) -> None:
        """Let go the held notices whose time has come, in the order of each sender."""
        if not self._held:
            return
        waiting: deque[Notice] = deque()
        blocked: set[str] = set()
        for notice in self._held:
            if notice.pid in blocked or not self._is_due(notice.mark):
                waiting.append(notice)
                blocked.add(notice.pid)
            else:
                self._push_event(notice)
        self._held = waiting

    def _is_due(self, mark: wire.Mark | None) -> bool:
        if mark is None or mark.gateway < self.gateway:
            return True
        return mark.gateway == self.gateway and (self.data_ended or self.frames >= mark.frame)

    # --- what is no longer wanted -------------------------------------------------------------------------------------

    def begin_removal(self, removal: Removal) -> None:
        """A removal was asked for: what comes until it is answered, and what is held, is dropped (S21, S27)."""
        self._removals.append(removal)
        self._held = deque(notice for notice in self._held if not removal.matches(notice))

    def end_removal(self, removal: Removal, *, flush: bool) -> None:
        """The removal was answered. With `flush` what was queued before goes too."""
        if removal in self._removals:
            self._removals.remove(removal)
        if flush:
            self._events = deque(event for event in self._events if not removal.matches(event.record))

    def begin_watch(self, ref: int, group: str) -> None:
        """A watch was asked for: its changes may come from now on."""
        self._watches[ref] = group

    def end_watch(self, ref: int) -> None:
        """A watch is gone: none of its changes is received any more, not even those that wait."""
        self._watches.pop(ref, None)

    # --- topics that are listened to ----------------------------------------------------------------------------------

    def listen(self, topic: str) -> None:
        """From here on the mail of this topic, unread or to come, is taken with `Topic(topic)` only. Once more does nothing.

        Here and in `unlisten` the queues are changed where they are: a signal handler may do this in the midst of a take.
        """
        if topic in self._listened:
            return
        queue = self._listened[topic] = deque()
        for _ in range(len(self._inbox)):
            mail = self._inbox.popleft()
            (queue if topic_of_mail(mail) == topic else self._inbox).append(mail)

    def unlisten(self, topic: str) -> None:
        """What is unread of this topic is inbox again, in the order of arrival. Nothing happens if it is not listened to."""
        queue = self._listened.pop(topic, None)
        if queue:
            merged = list(heapq.merge(self._inbox, queue, key=arrival_of))
            queue.clear()
            self._inbox.clear()
            self._inbox.extend(merged)

    # --- taking -------------------------------------------------------------------------------------------------------

    def take(self, stream: Stream | Topic) -> Item | None:
        """Return the next item of a stream; None if nothing is there. `BOTH` is in the order of arrival. Raises NotListening."""
        if type(stream) is Topic:
            return self._take_listened(stream.name)
        while True:
            try:
                if stream is _INBOX or (stream is _BOTH and self._mail_is_next()):
                    item: Item | None = self._open_mail(self._inbox.popleft())
                else:
                    item = self._open_event(self._events.popleft().record)
            except IndexError:
                if stream is _BOTH and (self._inbox or self._events):
                    continue
                return None
            if item is not None:
                return item

    def _take_listened(self, topic: str) -> Item | None:
        while True:
            queue = self._listened.get(topic)
            if queue is None:
                raise NotListening(f"this process does not listen to {topic!r}: process.listen begins it")
            try:
                item = self._open_mail(queue.popleft())
            except IndexError:
                return None
            if item is not None:
                return item

    def _mail_is_next(self) -> bool:
        if not self._inbox or not self._events:
            return bool(self._inbox)
        return arrival_of(self._inbox[0]) < self._events[0].arrival

    def _open_mail(self, mail: Mail) -> Message | None:
        _, size, connection, record = mail
        if connection is not None:
            self.unread_data -= size
            if type(record) is Heartbeat:
                self._heartbeats.discard(connection.pid)
            return message_of(connection, record)
        self.unread -= size
        if not isinstance(record, wire.Deliver):
            return None
        try:
            return make_message(record.topic, unpack(record.payload), Pid(record.sender))
        except ValueError:  # no library packs such bytes: whoever wrote them by hand has sent nothing
            return None

    def _open_event(self, record: EventRecord) -> Item | None:
        if isinstance(record, wire.GroupChanged):
            self.unread -= MAIL_OVERHEAD
            group = self._watches.get(record.ref)
            if group is None:
                return None
            return (GroupJoined if record.joined else GroupLeft)(group, Pid(record.pid), record.ref)
        if isinstance(record, wire.CancelSignal):
            self._cancels.discard(record.sender)
            self.cancel_received = True
            return Cancel(Pid(record.sender), cancel_reason(record.grace))
        self._observe_death(record.pid)
        reason = reason_from_wire(record.reason)
        if isinstance(record, wire.Exit):
            return Exit(Pid(record.pid), record.ref, reason)
        return LinkDown(Pid(record.pid), reason)

    def _observe_death(self, pid: str) -> None:
        self.observed_dead[pid] = None
        if len(self.observed_dead) > MAX_OBSERVED_DEAD:
            del self.observed_dead[next(iter(self.observed_dead))]

    # --- upgrade (S35) ------------------------------------------------------------------------------------------------

    def contents(self) -> Contents:
        """Return all that the new code of this process is to have. What was asked for and not answered is not among it."""
        return Contents(
            gateway=self.gateway,
            frames=self.frames,
            data_ended=self.data_ended,
            arrivals=self._arrivals,
            cancel_received=self.cancel_received,
            watches=self._watches,
            observed_dead=self.observed_dead,
            mail=deque(heapq.merge(self._inbox, *self._listened.values(), key=arrival_of)),
            events=self._events,
            held=self._held,
            joined=self._connections.joined,
            traces=self._connections.traces.contents(),
        )

    def restore(self, contents: Contents) -> None:
        """Have in it what another mailbox had. This one must be new."""
        self.gateway, self.frames, self.data_ended = contents.gateway, contents.frames, contents.data_ended
        self._arrivals, self.cancel_received = contents.arrivals, contents.cancel_received
        self._watches, self.observed_dead = contents.watches, contents.observed_dead
        self._inbox, self._events, self._held = contents.mail, contents.events, contents.held
        self._connections.joined = contents.joined
        self._connections.traces.restore(contents.traces, frozenset(one.pid for one in contents.joined.values()))
        self.unread, self.unread_data = self._count()
        self._cancels = {event.record.sender for event in self._events if isinstance(event.record, wire.CancelSignal)}
        self._heartbeats = {
            connection.pid
            for _, _, connection, record in self._inbox
            if connection is not None and isinstance(record, wire.Heartbeat)
        }

    def _count(self) -> tuple[int, int]:
        """The bytes of unread mail from other workers, and from the data channel."""
        everything = [mail for queue in (self._inbox, *self._listened.values()) for mail in queue]
        changes = sum(isinstance(event.record, wire.GroupChanged) for event in self._events)
        mail = sum(size for _, size, connection, _ in everything if connection is None) + MAIL_OVERHEAD * changes
        return mail, sum(size for _, size, connection, _ in everything if connection is not None)

    # --- invariants ---------------------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Raise ValueError if the counts and the queues disagree, or a notice is held that is due."""
        mail, data = self._count()
        if (mail, data) != (self.unread, self.unread_data):
            raise ValueError(f"counted {self.unread} and {self.unread_data} bytes, there are {mail} and {data}")
        if self._held and self._is_due(self._held[0].mark):
            raise ValueError("a notice is held that is due")
        for topic, queue in self._listened.items():
            if any(topic_of_mail(entry) != topic for entry in queue):
                raise ValueError("a topic's queue has mail of another topic")
        if any(topic_of_mail(entry) in self._listened for entry in self._inbox):
            raise ValueError("the inbox has mail of a topic that is listened to")
        queues = [[arrival_of(entry) for entry in queue] for queue in (self._inbox, *self._listened.values())]
        for arrivals in (*queues, [entry.arrival for entry in self._events]):
            if arrivals != sorted(arrivals):
                raise ValueError("a queue is out of order")
        if self.data_ended and len(self._connections):
            raise ValueError("a connection outlives its channel")
