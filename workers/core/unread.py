"""What stands unread in a mailbox: the entries of its queues, all of them together, and which of them are no longer wanted.

Knows nothing of the queues, and of what reads them.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple, TypeAlias

from ...kernel.wire import messages as wire
from .connections import Connection, topic_of
from .traces import Trace

Notice = wire.Exit | wire.LinkDown
EventRecord = Notice | wire.CancelSignal | wire.GroupChanged


class Removal(NamedTuple):
    """Notices that are no longer wanted: EXIT of one ref (S21), EXIT of a PID (S19), or LINK_DOWN of a PID (S27)."""

    kind: type[Notice]
    key: int | str

    def matches(self, notice: EventRecord) -> bool:
        """Whether the notice is one of them."""
        if not isinstance(notice, wire.Exit | wire.LinkDown) or not isinstance(notice, self.kind):
            return False
        if isinstance(self.key, int):
            return isinstance(notice, wire.Exit) and notice.ref == self.key
        return notice.pid == self.key


Mail: TypeAlias = tuple[int, int, Connection | None, tuple[Any, ...]]
"""A message that is unread: its arrival, its size, its connection, which is None for mail from a process of the supervisor, and
its record. A plain tuple, because a named one takes several times as long to make and to unpack, and every message is one."""


class Event(NamedTuple):
    """An event that is unread."""

    arrival: int
    record: EventRecord


class Contents(NamedTuple):
    """All that a mailbox has in it, for the mailbox of the new code when a process is upgraded (S35)."""

    gateway: int
    frames: int
    data_ended: bool
    arrivals: int
    cancel_received: bool
    watches: dict[int, str]
    observed_dead: dict[str, None]
    mail: deque[Mail]
    """Of all topics, in the order of arrival."""
    events: deque[Event]
    held: deque[Notice]
    joined: dict[int, Connection]
    traces: tuple[tuple[str, Trace], ...] = ()
    """PIDs of connections, and their trace contexts."""


def topic_of_mail(mail: Mail) -> str:
    """Return the topic that its message will have; "" for a frame that is none."""
    _, _, connection, record = mail
    if connection is not None:
        return topic_of(connection, record)
    return record.topic if isinstance(record, wire.Deliver) else ""


def arrival_of(mail: Mail) -> int:
    """Return when it came, as the count of arrivals: what mail is merged by."""
    return mail[0]
