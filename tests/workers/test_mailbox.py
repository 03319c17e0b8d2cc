"""Mail and events, rule by rule (S8, S10, S14, S19, S21, S27, S33, S35, S41, S45, S55, S57). Any order of them is the business of `test_mailbox_machine`."""

from __future__ import annotations

from wsrelay.kernel.wire import messages as wire
from wsrelay.kernel.wire.pid import Pid
from wsrelay.workers.core import hand_over
from wsrelay.workers.core.items import Cancel, Exit, GroupJoined, GroupLeft, Message
from wsrelay.workers.core.mailbox import MAIL_OVERHEAD, MAX_OBSERVED_DEAD, Mailbox
from wsrelay.workers.core.streams import Stream
from wsrelay.workers.core.unread import Removal

from .mail import EPOCH, REASON, WORKERS, client, payload


def exit_of(pid: str, ref: int, mark: wire.Mark | None = None) -> wire.Exit:
    return wire.Exit(ref, pid, REASON, mark)


def test_a_held_notice_comes_after_the_last_message() -> None:
    # S14, S45
    mailbox = Mailbox()
    mailbox.open_data(1)
    pid = client(1, 1)
    mailbox.notify(exit_of(pid, 5, wire.Mark(1, 2)))
    mailbox.read_data(wire.Join(1, pid, "ws.message", payload({"a": 1}), True))
    assert mailbox.take(Stream.EVENTS) is None
    mailbox.read_data(wire.Leave(1, "client_closed", 1001))
    taken = [mailbox.take(Stream.BOTH) for _ in range(4)]
    assert [type(item) for item in taken] == [Message, Message, Exit, type(None)]
    assert taken[0].payload == {"client_pid": pid, "metadata": {"a": 1}, "resumed": True}
    assert taken[1].payload == {"client_pid": pid, "reason": "client_closed", "code": 1001, "metadata": {"a": 1}}


def test_the_leaves_of_a_dead_gateway_come_before_the_exits() -> None:
    # S41, S45: the supervisor's word may be read long before the end of the channel
    mailbox = Mailbox()
    mailbox.open_data(1)
    for serial in (1, 2):
        mailbox.read_data(wire.Join(serial, client(1, serial), "ws.message", b"", False))
    for ref, serial in ((1, 1), (2, 2), (3, 3)):  # the third one's Join is still on its way
        mailbox.notify(exit_of(client(1, serial), ref, wire.Mark(1, wire.END_OF_CHANNEL)))
    mailbox.read_data(wire.Leave(2, "client_closed", 1000))
    mailbox.read_data(wire.Join(3, client(1, 3), "ws.message", b"", False))
    assert mailbox.take(Stream.EVENTS) is None
    assert mailbox.wants_data
    mailbox.open_data(2)
    taken = []
    while (item := mailbox.take(Stream.BOTH)) is not None:
        reason = item.payload.get("reason") if isinstance(item, Message) else "exit"
        taken.append((item.sender, reason))
    one, two, three = (client(1, serial) for serial in (1, 2, 3))
    assert taken == [
        (one, None), (two, None), (two, "client_closed"), (three, None),
        (one, "gateway_lost"), (three, "gateway_lost"), (one, "exit"), (two, "exit"), (three, "exit"),
    ]  # fmt: skip
    mailbox.check_invariants()


def test_payloads_of_the_contract() -> None:
    mailbox = Mailbox()
    mailbox.open_data(1)
    pid = client(1, 7)
    mailbox.read_data(wire.Join(7, pid, "talk", payload({"user": 1}), False))
    mailbox.read_data(wire.ClientMessage(7, b"\x00"))
    mailbox.read_data(wire.Heartbeat(7, 1.5, 3))
    mailbox.read_data(wire.ControlError(pid, "name", "no such target"))
    mailbox.read_data(wire.Heartbeat(8, 1.5, 3))  # of a connection that has not joined
    first, message, heartbeat, error = (mailbox.take(Stream.INBOX) for _ in range(4))
    metadata = {"user": 1}
    assert message == Message("talk", {"client_pid": pid, "type": "binary", "data": b"\x00", "metadata": metadata}, pid)
    expected = {"client_pid": pid, "uptime": 1.5, "message_count": 3, "metadata": metadata}
    assert heartbeat == Message("ws.heartbeat", expected, pid)
    failed = {"client_pid": pid, "target_pid": "name", "error": "no such target"}
    assert error == Message("ws.control_error", failed, pid)
    assert isinstance(first, Message)
    assert isinstance(message, Message)
    assert first.payload["metadata"] is not message.payload["metadata"]
    assert mailbox.take(Stream.INBOX) is None


def test_reading_stops_over_the_bound_except_for_a_held_notice() -> None:
    # S10, S14
    mailbox = Mailbox(data_bound=4 * MAIL_OVERHEAD)
    mailbox.open_data(1)
    mailbox.read_data(wire.Join(1, client(1, 1), "ws.message", b"", False))
    for _ in range(4):
        assert mailbox.wants_data
        mailbox.read_data(wire.ClientMessage(1, ""))
    assert not mailbox.wants_data
    mailbox.notify(exit_of(client(1, 1), 1, wire.Mark(1, 6)))
    assert mailbox.wants_data
    mailbox.read_data(wire.Leave(1, "closed", None))
    assert not mailbox.wants_data
    for _ in range(4):
        assert not mailbox.wants_data
        mailbox.take(Stream.INBOX)
    assert mailbox.wants_data
    assert not mailbox.overflown


def test_other_workers_mail_overflows() -> None:
    # S10: events are exempt, and so are clients, who are held back
    mailbox = Mailbox(limit=1000)
    mailbox.open_data(1)
    mailbox.read_data(wire.Join(1, client(1, 1), "ws.message", b"", False))
    mailbox.read_data(wire.ClientMessage(1, "x" * 2000))
    for ref in range(1, 100):
        mailbox.notify(exit_of(WORKERS[0], ref))
    assert not mailbox.overflown
    mailbox.deliver(wire.Deliver(WORKERS[0], "t", bytes(1000)))
    assert mailbox.overflown


def test_removals() -> None:
    # S19, S21, S27
    one, other = WORKERS
    mailbox = Mailbox()
    mailbox.open_data(1)
    mailbox.notify(exit_of(one, 1))
    mailbox.notify(exit_of(client(1, 1), 2, wire.Mark(1, 1)))
    by_ref, held, by_pid = Removal(wire.Exit, 1), Removal(wire.Exit, 2), Removal(wire.Exit, one)
    for removal in (by_ref, held, by_pid):
        mailbox.begin_removal(removal)
    mailbox.notify(exit_of(one, 3))
    mailbox.notify(wire.LinkDown(one, REASON, None))
    mailbox.notify(exit_of(other, 4))
    for removal in (by_ref, held, by_pid):
        mailbox.end_removal(removal, flush=False)
    mailbox.skip_data()
    mailbox.notify(exit_of(one, 5))
    refs = [getattr(mailbox.take(Stream.EVENTS), "ref", None) for _ in range(5)]
    assert refs == [1, None, 4, 5, None]
    mailbox.notify(exit_of(one, 6))
    mailbox.begin_removal(Removal(wire.Exit, 6))
    mailbox.end_removal(Removal(wire.Exit, 6), flush=True)
    assert mailbox.take(Stream.EVENTS) is None


def test_bytes_that_no_library_packs_are_no_message() -> None:
    mailbox = Mailbox()
    mailbox.deliver(wire.Deliver(WORKERS[0], "t", b"\xc1"))
    mailbox.deliver(wire.Deliver(WORKERS[0], "t", payload({(1, 2): [3]})))
    item = mailbox.take(Stream.BOTH)
    assert isinstance(item, Message)
    assert item.payload == {(1, 2): (3,)}
    assert mailbox.take(Stream.BOTH) is None
    mailbox.check_invariants()


def test_the_memory_of_the_dead_is_bounded() -> None:
    # S8
    mailbox = Mailbox()
    pids = [Pid.make("n", "h", EPOCH, "s", serial) for serial in range(1, MAX_OBSERVED_DEAD + 3)]
    for pid in pids:
        mailbox.notify(exit_of(pid, 1))
        mailbox.take(Stream.EVENTS)
    assert list(mailbox.observed_dead) == pids[2:]


def test_reset_forgets_the_process_and_not_the_channel() -> None:
    # S57
    mailbox = Mailbox()
    mailbox.open_data(1)
    mailbox.read_data(wire.Join(1, client(1, 1), "ws.message", b"", False))
    mailbox.notify(exit_of(WORKERS[0], 1))
    mailbox.take(Stream.EVENTS)
    mailbox.reset()
    assert (mailbox.gateway, mailbox.frames, mailbox.data_ended) == (1, 1, False)
    assert mailbox.take(Stream.BOTH) is None
    assert not mailbox.observed_dead
    mailbox.end_data()
    assert mailbox.take(Stream.BOTH) is None
    mailbox.check_invariants()


def test_at_most_one_heartbeat_of_a_connection_waits() -> None:
    # S55
    mailbox = Mailbox()
    mailbox.open_data(1)
    for serial in (1, 2):
        mailbox.read_data(wire.Join(serial, client(1, serial), "ws.message", b"", False))
    for count in range(5):
        mailbox.read_data(wire.Heartbeat(1, 1.0, count))
        mailbox.read_data(wire.Heartbeat(2, 1.0, count))
    assert mailbox.frames == 12  # those that are not shown count all the same (S14)
    assert [item.topic for _ in range(4) if isinstance(item := mailbox.take(Stream.INBOX), Message)] == [
        "ws.join",
        "ws.join",
        "ws.heartbeat",
        "ws.heartbeat",
    ]
    assert mailbox.take(Stream.INBOX) is None
    mailbox.read_data(wire.Heartbeat(1, 2.0, 9))
    assert mailbox.take(Stream.INBOX) is not None


def test_changes_of_a_watched_group() -> None:  # S10, S33
    mailbox = Mailbox(limit=3 * MAIL_OVERHEAD)
    mailbox.begin_watch(7, "red")
    mailbox.begin_watch(8, "blue")
    mailbox.group_changed(wire.GroupChanged(7, WORKERS[0], True))
    mailbox.group_changed(wire.GroupChanged(8, WORKERS[0], True))
    mailbox.group_changed(wire.GroupChanged(7, WORKERS[0], False))
    mailbox.check_invariants()
    assert not mailbox.overflown
    assert mailbox.take(Stream.INBOX) is None
    assert mailbox.take(Stream.BOTH) == GroupJoined("red", WORKERS[0], 7)
    mailbox.end_watch(8)  # what waits of it is never received
    assert mailbox.take(Stream.EVENTS) == GroupLeft("red", WORKERS[0], 7)
    assert mailbox.take(Stream.EVENTS) is None
    assert mailbox.unread == 0
    mailbox.check_invariants()
    for _ in range(4):
        mailbox.group_changed(wire.GroupChanged(7, WORKERS[0], True))
    assert mailbox.overflown


def test_what_a_process_remembers_goes_along() -> None:  # S8, S18, S29, S33, S35, S55
    mailbox = Mailbox()
    mailbox.open_data(3)
    pid = client(3, 1)
    mailbox.read_data(wire.Join(1, pid, "chat", payload({"user": [1, None, {"a": b"b"}]}), False))
    mailbox.read_data(wire.Heartbeat(1, 1.5, 7))
    mailbox.begin_watch(9, "group")
    mailbox.group_changed(wire.GroupChanged(9, WORKERS[0], True))
    mailbox.cancel(wire.CancelSignal(WORKERS[0], None))
    mailbox.notify(wire.Exit(4, WORKERS[1], REASON, None))
    mailbox.notify(wire.Exit(5, pid, REASON, wire.Mark(3, 4)))
    assert isinstance(mailbox.take(Stream.EVENTS), GroupJoined)
    mailbox.cancel(wire.CancelSignal(WORKERS[1], None))
    state = hand_over.State(mailbox.contents(), 17, b"", 0, False)
    after = Mailbox()
    after.restore(hand_over.load(b"".join(hand_over.dump(state))).contents)
    after.check_invariants()
    after.cancel(wire.CancelSignal(WORKERS[1], None))  # at most one of each sender waits
    after.read_data(wire.Heartbeat(1, 2.5, 8))  # and one heartbeat of each connection
    taken = [after.take(Stream.EVENTS) for _ in range(4)]
    assert [type(item) for item in taken] == [Cancel, Exit, Cancel, type(None)]
    assert after.cancel_received
    assert list(after.observed_dead) == [WORKERS[1]]
    after.read_data(wire.ClientMessage(1, "text"))
    notice = after.take(Stream.EVENTS)
    assert isinstance(notice, Exit)
    assert notice.ref == 5, "it was held, and the frames are counted on (S14)"
    after.group_changed(wire.GroupChanged(9, WORKERS[0], False))
    assert after.take(Stream.EVENTS) == GroupLeft("group", WORKERS[0], 9)
    mail = [after.take(Stream.INBOX) for _ in range(4)]
    assert [item.topic for item in mail if isinstance(item, Message)] == ["ws.join", "ws.heartbeat", "chat"]
    assert all(item.payload["metadata"] == {"user": [1, None, {"a": b"b"}]} for item in mail if item is not None)
