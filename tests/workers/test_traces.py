"""Which connections the library knows a trace context of, and for how long."""

from __future__ import annotations

from wsrelay.kernel.wire import messages as wire
from wsrelay.workers.core.hand_over import State, dump, load
from wsrelay.workers.core.mailbox import Mailbox
from wsrelay.workers.core.streams import Stream
from wsrelay.workers.core.traces import MAX_LEFT, Traces


def client(serial: int) -> str:
    return f"{{node@app:gateway|00000000000000aa.g1.{serial}}}"


def trace(serial: int) -> tuple[tuple[str, str], ...]:
    return (("traceparent", f"00-{serial:032x}-{serial:016x}-01"), ("tracestate", "vendor=1"))


def join(serial: int, *, traced: bool = True) -> wire.Join:
    return wire.Join(serial, client(serial), "ws.message", b"", False, trace(serial) if traced else ())


def opened() -> Mailbox:
    mailbox = Mailbox()
    mailbox.open_data(1)
    return mailbox


def test_a_message_has_the_context_of_its_join_though_its_connection_has_left() -> None:
    mailbox = opened()
    for record in (join(1), join(2, traced=False), wire.ClientMessage(1, "a"), wire.Leave(1, "client_closed", 1000)):
        mailbox.read_data(record)
    senders = []
    while (item := mailbox.take(Stream.BOTH)) is not None:
        senders.append(item.sender)
    assert [mailbox.trace_of(sender) for sender in senders] == [trace(1), (), trace(1), trace(1)]
    assert mailbox.trace_of("{node@app:processes|00000000000000aa.s.1}") == ()


def test_those_whose_gateway_died_are_forgotten_like_those_that_left() -> None:
    mailbox = opened()
    for serial in (1, 2):
        mailbox.read_data(join(serial))
    mailbox.end_data()
    assert mailbox.trace_of(client(1)) == trace(1)
    mailbox.open_data(2)
    for serial in range(10, 10 + MAX_LEFT - 1):
        mailbox.read_data(join(serial))
        mailbox.read_data(wire.Leave(serial, "client_closed", 1000))
    assert [mailbox.trace_of(client(serial)) for serial in (1, 2)] == [(), trace(2)]


def test_no_more_is_remembered_than_the_latest_that_have_left_and_all_that_have_not() -> None:
    traces = Traces()
    traces.join("stays", trace(0))
    for _ in range(2):  # one that comes back is not forgotten with those that left before it
        traces.leave("stays")
        traces.join("stays", trace(0))
    for serial in range(1, MAX_LEFT + 10):
        traces.join(f"{serial}", trace(serial))
        traces.leave(f"{serial}")
        traces.leave(f"{serial}")
    assert traces.of("9") == ()
    assert traces.of("10") == trace(10)
    assert traces.of("stays") == trace(0)
    assert len(traces.contents()) == MAX_LEFT + 1


def test_the_contexts_go_along_with_an_upgrade() -> None:
    # S35
    old, new = opened(), Mailbox()
    for record in (join(1), join(2), wire.ClientMessage(1, "a"), wire.Leave(1, "client_closed", 1000)):
        old.read_data(record)
    state = load(b"".join(dump(State(old.contents(), 7, b"", 0, False))))
    new.restore(state.contents)
    new.check_invariants()
    assert [new.trace_of(client(serial)) for serial in (1, 2)] == [trace(1), trace(2)]
    assert new.contents().traces == old.contents().traces
    for serial in range(10, 10 + MAX_LEFT):
        new.read_data(join(serial))
        new.read_data(wire.Leave(serial, "client_closed", 1000))
    assert [new.trace_of(client(serial)) for serial in (1, 2)] == [(), trace(2)]


def test_an_invocation_knows_nothing_of_the_one_before() -> None:
    # S57
    mailbox = opened()
    mailbox.read_data(join(1))
    mailbox.reset()
    assert mailbox.trace_of(client(1)) == ()
