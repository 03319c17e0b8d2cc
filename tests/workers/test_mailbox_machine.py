"""The order of mail and events against a model that says what the promises say (S10, S14, S19, S29, S35, S41)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from wsrelay.kernel.wire import messages as wire
from wsrelay.kernel.wire.pid import Pid
from wsrelay.workers.core import hand_over
from wsrelay.workers.core.items import Cancel, Exit, LinkDown, Message
from wsrelay.workers.core.mailbox import Mailbox
from wsrelay.workers.core.streams import NotListening, Stream, Topic

from .mail import REASON, WORKERS, client, payload

SERIALS = [1, 2, 3]
TOPICS = ["topic", "other", "ws.join", "ws.message", "ws.leave"]
MARKS = st.none() | st.builds(lambda extra: extra, st.integers(0, 4))


class MailboxMachine(RuleBasedStateMachine):
    """Numbers everything that is sent, and checks at each take that it is the right thing at the right time."""

    def __init__(self) -> None:
        super().__init__()
        self.mailbox = Mailbox(limit=1 << 30)
        self.gateway = 0
        self.open = False
        self.frames = 0
        self.count = 0
        self.joined: dict[int, Pid] = {}
        self.inbox: list[tuple[str, Any]] = []
        """The mail that must come out, in this order: each topic that is listened to by itself, all others together."""
        self.listened: set[str] = set()
        self.sent: dict[Pid, list[tuple[int, wire.Mark | None]]] = {}
        """For each sender the refs of its notices that have not come out, in order."""
        self.cancels: list[Pid] = []

    def number(self) -> int:
        self.count += 1
        return self.count

    def due(self, mark: wire.Mark | None) -> bool:
        if mark is None or mark.gateway < self.gateway:
            return True
        return mark.gateway == self.gateway and (not self.open or self.frames >= mark.frame)

    def readable(self) -> set[int]:
        """The refs that may come out now: those of a sender up to the first that is not due."""
        found: set[int] = set()
        for notices in self.sent.values():
            for ref, mark in notices:
                if not self.due(mark):
                    break
                found.add(ref)
        return found

    @rule(sender=st.sampled_from(WORKERS), topic=st.sampled_from(["topic", "topic", "other"]))
    def deliver(self, sender: Pid, topic: str) -> None:
        number = self.number()
        self.mailbox.deliver(wire.Deliver(sender, topic, payload(number)))
        self.inbox.append((topic, number))

    @rule(topic=st.sampled_from(TOPICS))
    def listen(self, topic: str) -> None:
        self.mailbox.listen(topic)
        self.listened.add(topic)

    @rule(topic=st.sampled_from(TOPICS))
    def unlisten(self, topic: str) -> None:
        self.mailbox.unlisten(topic)
        self.listened.discard(topic)

    @rule(topic=st.sampled_from(TOPICS))
    def take_listened(self, topic: str) -> None:
        if topic in self.listened:
            self.check_mail(self.mailbox.take(Topic(topic)), topic)
        else:
            with pytest.raises(NotListening):
                self.mailbox.take(Topic(topic))

    @rule()
    def upgrade(self) -> None:
        """S35: all that is unread is there in the new code, and it listens to nothing."""
        before = hand_over.State(self.mailbox.contents(), self.count, b"half a frame", 7, True)
        after = hand_over.load(b"".join(hand_over.dump(before)))
        assert after[1:] == before[1:]
        unread = self.mailbox.unread, self.mailbox.unread_data
        self.mailbox = Mailbox(limit=1 << 30)
        self.mailbox.restore(after.contents)
        assert (self.mailbox.unread, self.mailbox.unread_data) == unread
        self.listened.clear()

    @rule()
    def open_data(self) -> None:
        self.gateway += 1
        self.mailbox.open_data(self.gateway)
        self.leave_all()
        self.open, self.frames = True, 0

    @precondition(lambda self: self.open)
    @rule()
    def end_data(self) -> None:
        self.mailbox.end_data()
        self.open = False
        self.leave_all()

    def leave_all(self) -> None:
        for pid in self.joined.values():
            self.inbox.append(("ws.leave", (pid, "gateway_lost")))
        self.joined.clear()

    @precondition(lambda self: self.open)
    @rule(serial=st.sampled_from(SERIALS))
    def client_speaks(self, serial: int) -> None:
        self.frames += 1
        pid = client(self.gateway, serial)
        if serial not in self.joined:
            self.mailbox.read_data(wire.Join(serial, pid, "ws.message", b"", False))
            self.joined[serial] = pid
            self.inbox.append(("ws.join", pid))
        else:
            number = self.number()
            self.mailbox.read_data(wire.ClientMessage(serial, str(number)))
            self.inbox.append(("ws.message", str(number)))

    @precondition(lambda self: self.open and self.joined)
    @rule(data=st.data())
    def client_leaves(self, data: st.DataObject) -> None:
        self.frames += 1
        serial = data.draw(st.sampled_from(sorted(self.joined)))
        self.mailbox.read_data(wire.Leave(serial, "closed", 1000))
        self.inbox.append(("ws.leave", (self.joined.pop(serial), "closed")))

    @rule(serial=st.sampled_from(SERIALS), ahead=st.none() | st.integers(0, 4), older=st.booleans(), link=st.booleans())
    def end_of_a_client(self, serial: int, ahead: int | None, older: bool, link: bool) -> None:
        gateway = max(1, self.gateway - older)
        pid = client(gateway, serial)
        mark = None if ahead is None else wire.Mark(gateway, self.frames + ahead)
        ref = self.number()
        self.mailbox.notify(wire.LinkDown(pid, REASON._replace(detail=str(ref)), mark) if link else
                            wire.Exit(ref, pid, REASON._replace(detail=str(ref)), mark))  # fmt: skip
        self.sent.setdefault(pid, []).append((ref, mark))

    @rule(sender=st.sampled_from(WORKERS))
    def cancel(self, sender: Pid) -> None:
        self.mailbox.cancel(wire.CancelSignal(sender, None))
        if sender not in self.cancels:
            self.cancels.append(sender)

    @rule()
    def take_mail(self) -> None:
        self.check_mail(self.mailbox.take(Stream.INBOX))

    @rule()
    def take_event(self) -> None:
        self.check_event(self.mailbox.take(Stream.EVENTS))

    @rule()
    def take_any(self) -> None:
        item = self.mailbox.take(Stream.BOTH)
        if item is None:
            self.check_mail(None)
            self.check_event(None)
        elif isinstance(item, Message):
            self.check_mail(item)
        else:
            self.check_event(item)

    def check_mail(self, item: Any, listened: str | None = None) -> None:
        """The first item of the topic that is listened to, or of all that are not."""
        place = next(
            (
                place
                for place, (topic, _) in enumerate(self.inbox)
                if (topic == listened if listened else topic not in self.listened)
            ),
            None,
        )
        if item is None or place is None:
            assert item is place is None
            return
        topic, expected = self.inbox.pop(place)
        assert item.topic == topic
        if topic in ("topic", "other"):
            assert item.payload == expected
        elif topic == "ws.join":
            assert (item.sender, item.payload) == (expected, {"client_pid": expected, "metadata": {}})
        elif topic == "ws.message":
            assert item.payload["data"] == expected
        else:
            assert (item.sender, item.payload["reason"]) == expected

    def check_event(self, item: Any) -> None:
        if item is None:
            assert not self.cancels
            assert not self.readable()
        elif isinstance(item, Cancel):
            assert self.cancels.pop(0) == item.sender
        else:
            assert isinstance(item, (Exit, LinkDown))
            ref, _ = self.sent[item.sender].pop(0)
            assert item.reason.detail == str(ref)  # in the order of its sender
            assert item.sender in self.mailbox.observed_dead

    @invariant()
    def consistent(self) -> None:
        self.mailbox.check_invariants()


TestMailbox = MailboxMachine.TestCase
