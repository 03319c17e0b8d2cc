"""A real client, a real gateway process, and workers that do what the test says (S44 to S55)."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import raw_client
from support.raw_client import frame, handshake
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.configuration import Limits, Ping, Timeouts
from wsrelay.kernel.wire.reason import make_reason

PID = "{node@app:gateway|00000000000000aa.g1.%d}"


def relay(target: str, **fields: Any) -> tuple[tuple[str, str], ...]:
    return (("X-WS-Relay", json.dumps({"target_pid": target, **fields})),)


@contextlib.contextmanager
def client_with(
    supervisor: Any, play: Callable[[], Any], path: str = "/ws/lobby", **options: Any
) -> Iterator[tuple[ClientConnection, Any]]:
    """A client whose handshake goes on in another thread while the test plays the supervisor."""
    for name, value in {"compression": None, "max_size": None, "ping_interval": None, "close_timeout": 5}.items():
        options.setdefault(name, value)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        port = supervisor.ports["app:gateway"]
        opening = pool.submit(connect, f"ws://127.0.0.1:{port}{path}", **options)
        played = play()
        connection = opening.result()
    with connection:
        yield connection, played


class Pair:
    """An open connection and its target."""

    def __init__(self, supervisor: Any, stack: contextlib.ExitStack, **fields: Any) -> None:
        self.supervisor = supervisor
        self.function = supervisor.function_worker()
        self.target = supervisor.actor()
        options = fields.pop("options", {})
        headers = fields.pop("headers", ())

        def play() -> tuple[m.Request, m.Admit]:
            request = supervisor.grant(self.function)
            supervisor.answer(self.function, headers=(*relay(self.target.pid, **fields), *headers))
            return request, supervisor.admit(self.target)

        self.client, (self.request, self.admit) = stack.enter_context(client_with(supervisor, play, **options))
        self.join = self.target.expect(m.Join)
        self.serial = self.join.connection
        self.pid = self.join.pid

    def closed(self) -> tuple[int, str]:
        """Read up to the close; return the code and the reason that the client got."""
        with pytest.raises(ConnectionClosed) as caught:
            self.read_all()
        assert caught.value.rcvd is not None, "no Close frame came"
        return caught.value.rcvd.code, caught.value.rcvd.reason

    def read_all(self) -> None:
        """Read until the connection is closed, which raises."""
        while True:
            self.client.recv(timeout=10)


@pytest.fixture
def open_pair(supervisor: Any) -> Iterator[Callable[..., Pair]]:
    with contextlib.ExitStack() as stack:
        yield lambda *, using=supervisor, **fields: Pair(using, stack, **fields)


@pytest.fixture
def pair(open_pair: Callable[..., Pair]) -> Pair:
    return open_pair()


# --- admission --------------------------------------------------------------------------------------------------------


def test_the_handler_sees_the_request_and_the_target_joins(open_pair: Callable[..., Pair]) -> None:  # S44, S45
    pair = open_pair(
        message_topic="chat", metadata={"user": 7}, options={"path": "/ws/a%20b?q=1", "subprotocols": ["x", "y"]},
        headers=(("Set-Cookie", "a=b"), ("Sec-WebSocket-Protocol", "y"), ("Content-Type", "text/plain")),
    )  # fmt: skip
    request = pair.request
    assert (request.method, request.path, request.query) == ("GET", "/ws/a b", "q=1")
    assert request.parameters == (("room", "a b"),)
    assert request.remote_address == "127.0.0.1"
    assert dict(request.headers)["upgrade"] == "websocket"
    assert pair.admit == m.Admit(pair.admit.request, PID % 1, pair.target.pid, request.pid)
    assert pair.join == m.Join(1, PID % 1, "chat", b"\x81\xa4user\x07", False)
    assert pair.client.subprotocol == "y"
    headers = pair.client.response.headers
    assert headers["Set-Cookie"] == "a=b"
    assert "X-WS-Relay" not in headers
    assert "Content-Type" not in headers


def reject(supervisor: Any, play: Callable[[], Any], **options: Any) -> Any:
    with pytest.raises(InvalidStatus) as caught, client_with(supervisor, play, **options):
        pass
    return caught.value.response


def test_no_relay_header_gives_the_handlers_own_response(supervisor: Any) -> None:
    function = supervisor.function_worker()

    def play() -> None:
        supervisor.grant(function, handshake=True)  # S44
        supervisor.answer(function, 401, [("X-Why", "no token")], b"log in first")

    response = reject(supervisor, play)
    assert (response.status_code, response.headers["X-Why"], response.body) == (401, "no token", b"log in first")


def test_a_malformed_header_is_500_and_its_target_is_abandoned(supervisor: Any) -> None:  # S44
    function, target = supervisor.function_worker(), supervisor.actor()

    def play() -> None:
        supervisor.grant(function)
        supervisor.answer(function, headers=relay(target.pid, heartbeat_interval="-1s"))

    assert reject(supervisor, play).status_code == 500
    assert supervisor.expect(m.Abandon) == m.Abandon(target.pid, function.pid, None)


def test_a_dead_target_is_503(supervisor: Any) -> None:  # S44
    function = supervisor.function_worker()

    def play() -> None:
        supervisor.grant(function)
        supervisor.answer(function, headers=relay("nobody"))
        asked = supervisor.expect(m.Admit)
        supervisor.send(m.Refused(asked.request, "NotFound", "no such name"))

    assert reject(supervisor, play).status_code == 503
    assert supervisor.expect(m.Abandon) == m.Abandon("nobody", function.pid, None)


@pytest.mark.parametrize(
    ("path", "origin", "allowed"),
    [
        ("/ws/x", None, True),
        ("/ws/x", "http://127.0.0.1:PORT", True),
        ("/ws/x", "https://127.0.0.1:PORT", False),
        ("/ws/x", "http://127.0.0.1", False),
        ("/ws/x", "http://evil.example", False),
        ("/ws/x", "null", False),
        ("/listed", "https://app.example.com", True),
        ("/listed", "https://app.example.com:443", True),
        ("/listed", "https://app.example.com.evil.org", False),
        ("/listed", "https://a.example.org", True),
        ("/listed", "https://a.b.example.org", False),
        ("/listed", "http://127.0.0.1:PORT", False),
    ],
)
def test_origins_are_checked_before_the_handler(supervisor: Any, path: str, origin: str | None, allowed: bool) -> None:
    port = str(supervisor.ports["app:gateway"])  # S44
    function = supervisor.function_worker()

    def play() -> None:
        if allowed:
            supervisor.grant(function)
            supervisor.answer(function, 418)

    response = reject(supervisor, play, path=path, origin=origin and origin.replace("PORT", port))
    assert response.status_code == (418 if allowed else 403)
    if not allowed:
        assert not [record for record in supervisor.inbox if isinstance(record, m.RequestInvocation)]


HEAD = "GET /ws/x HTTP/1.1\nHost: h\nConnection: Upgrade\nUpgrade: websocket\n"
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD + "Sec-WebSocket-Version: 13\n\n", 400),
        (HEAD + "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: short\n\n", 400),
        (HEAD + "Sec-WebSocket-Version: 8\n" + KEY + "\n", 426),
        (HEAD + "Sec-WebSocket-Version: 13\nContent-Length: 5\n" + KEY + "\nhello", 400),
        (HEAD.replace("1.1", "1.0") + "Sec-WebSocket-Version: 13\n" + KEY + "\n", 400),
        (HEAD + "Sec-WebSocket-Version: 13\nSec-WebSocket-Protocol: \u00ff\n" + KEY + "\n", 400),
        (HEAD.replace("/ws/x", "/nowhere") + "Sec-WebSocket-Version: 13\n" + KEY + "\n", 404),
    ],
)
def test_handshakes_are_checked_before_the_handler(supervisor: Any, head: str, status: int) -> None:  # S44
    raw = raw_client.connect(supervisor, head.replace("\n", "\r\n").encode())
    with raw, raw.makefile("rb") as answer:
        assert answer.readline().split()[1] == b"%d" % status
    assert not supervisor.inbox


def test_a_client_that_leaves_during_the_handshake_leaves_nothing(supervisor: Any) -> None:  # S44
    function, target = supervisor.function_worker(), supervisor.actor()
    raw = raw_client.connect(supervisor, handshake(b"/ws/x"))
    with raw:
        supervisor.grant(function)
        supervisor.answer(function, headers=relay(target.pid))
        asked = supervisor.expect(m.Admit)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other = raw_client.connect(supervisor, handshake(b"/ws/x"))
    with other:
        supervisor.expect(m.RequestInvocation)  # the gateway has seen the reset before it
        supervisor.send(m.Admitted(asked.request, target.pid, target.number))
        assert supervisor.expect(m.Abandon) == m.Abandon(target.pid, function.pid, asked.connection)
        connection, reason, marks = supervisor.ended()
        assert (connection, reason.kind, marks) == (asked.connection, "ws_closed:1006", ())


def test_a_client_that_leaves_while_waiting_is_withdrawn(supervisor: Any) -> None:
    raw = raw_client.connect(supervisor, handshake(b"/ws/x"))
    with raw:
        wanted = supervisor.expect(m.RequestInvocation)
    assert supervisor.expect(m.WithdrawInvocation) == m.WithdrawInvocation(wanted.request)


def test_bytes_before_the_101_are_kept(supervisor: Any) -> None:
    frame = b"\x81\x82\0\0\0\0hi"
    function, target = supervisor.function_worker(), supervisor.actor()
    raw = raw_client.connect(supervisor, handshake(b"/ws/x"))
    with raw:
        raw.sendall(frame)
        supervisor.grant(function)
        raw.sendall(frame)
        supervisor.answer(function, headers=relay(target.pid))
        supervisor.admit(target)
        assert isinstance(target.next(), m.Join)
        assert target.next() == target.next() == m.ClientMessage(1, "hi")
    target.expect(m.Leave)


# --- the stream -------------------------------------------------------------------------------------------------------


def test_messages_go_both_ways_with_their_type(pair: Pair) -> None:  # S46
    pair.client.send("täxt")
    pair.client.send(b"\x00\xff")
    pair.client.send(["in ", "pieces"])
    received = [pair.target.next() for _ in range(3)]
    assert received == [m.ClientMessage(1, "täxt"), m.ClientMessage(1, b"\x00\xff"), m.ClientMessage(1, "in pieces")]
    pair.target.send(m.ClientSend((1, 99), "täxt"), m.ClientSend((1,), b"\x00\xff"), m.ClientSend((1,), "x" * 70_000))
    assert [pair.client.recv(timeout=10) for _ in range(3)] == ["täxt", b"\x00\xff", "x" * 70_000]


def test_a_broadcast_reaches_all(open_pair: Callable[..., Pair]) -> None:
    pairs = [open_pair() for _ in range(3)]
    pairs[0].target.send(m.ClientSend(tuple(pair.serial for pair in pairs), "all"))
    assert [pair.client.recv(timeout=10) for pair in pairs] == ["all"] * 3


def test_the_clients_close_ends_it(pair: Pair) -> None:  # S45, S51
    pair.client.send("last")
    pair.client.close(4001, "done")
    assert pair.target.next() == m.ClientMessage(1, "last")
    assert pair.target.next() == m.Leave(1, "client_closed", 4001)
    connection, reason, marks = pair.supervisor.ended()
    assert (connection, reason.kind) == (pair.pid, "ws_closed:4001")
    assert dict(marks)[pair.target.number] == pair.target.read_count == 3  # S14


def test_a_cut_line(pair: Pair) -> None:  # S51
    pair.client.socket.shutdown(socket.SHUT_RDWR)
    assert pair.target.expect(m.Leave) == m.Leave(1, "connection_lost", None)
    assert pair.supervisor.ended()[1].kind == "ws_closed:1006"


@pytest.mark.parametrize(
    ("record", "code", "leave", "kind"),
    [
        (m.ClientClose((1,), 1000, "ü" * 100), 1000, "closed", "normal"),  # S50
        (m.ClientClose((1,), 4000, "go"), 4000, "closed", "ws_closed:4000"),
        (m.ClientCancel((1,), None), 1001, "cancelled", "cancelled"),  # S49, S51
        (m.ClientTerminate((1,)), 1011, "terminated", "killed"),
    ],
)
def test_a_process_ends_a_connection(pair: Pair, record: Any, code: int, leave: str, kind: str) -> None:
    pair.target.send(m.ClientSend((1,), "before"), record, m.ClientSend((1,), "after"))
    assert pair.client.recv(timeout=10) == "before"
    assert pair.closed()[0] == code
    assert pair.target.expect(m.Leave) == m.Leave(1, leave, code)
    assert pair.supervisor.ended()[1].kind == kind


def test_a_link_ends_a_connection_with_its_reason(pair: Pair) -> None:  # S51, S52
    reason = make_reason("exit:3", "secret")
    pair.supervisor.send(m.EndConnection(pair.pid, reason))
    assert pair.closed() == (1011, "exit:3")
    assert pair.target.expect(m.Leave) == m.Leave(1, "terminated", 1011)
    assert pair.supervisor.ended()[1] == reason


@pytest.mark.parametrize(
    ("kind", "restarting", "code"),
    [("normal", False, 1000), ("exception", False, 1011), ("signal:SIGKILL", False, 1011), ("exception", True, 1012)],
)
def test_the_targets_last_words_come_before_the_close(pair: Pair, kind: str, restarting: bool, code: int) -> None:
    for number in range(50):  # S14, S49
        pair.target.send(m.ClientSend((1,), str(number)))
    pair.target.end(kind, "Traceback: /secret", restarting=restarting)
    assert [pair.client.recv(timeout=10) for _ in range(50)] == [str(number) for number in range(50)]
    assert pair.closed() == (code, kind)
    marks = pair.supervisor.ended()[2]
    assert pair.target.number not in dict(marks)


def test_a_death_notice_that_is_read_first_waits_for_the_last_words(pair: Pair) -> None:  # S14
    gateway = pair.supervisor.process
    gateway.send_signal(signal.SIGSTOP)
    os.waitpid(gateway.pid, os.WUNTRACED)
    pair.supervisor.send(m.WorkerEnded(pair.target.number, pair.target.pid, make_reason("exception"), False))
    pair.target.send(*(m.ClientSend((1,), str(number) + "x" * 1000) for number in range(100)))
    pair.target.close()
    gateway.send_signal(signal.SIGCONT)
    assert [pair.client.recv(timeout=10).rstrip("x") for _ in range(100)] == [str(number) for number in range(100)]
    assert pair.closed() == (1011, "exception")


def test_a_target_that_is_an_invocation_ends_with_it(open_pair: Callable[..., Pair], supervisor: Any) -> None:
    pair = open_pair()
    worker = supervisor.function_worker()
    worker.pid = supervisor.new_pid()
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", supervisor.ports["app:gateway"], timeout=10)
    ) as other:
        other.request("GET", "/plain/x")
        supervisor.grant(worker)
        pair.target.send(m.ClientControl((1,), worker.pid, None, None, None))
        supervisor.retarget(worker)
        worker.expect(m.Join)
        supervisor.answer(worker)
        assert other.getresponse().status == 200
    assert pair.closed() == (1000, "normal")


# --- transfers --------------------------------------------------------------------------------------------------------


def test_a_transfer_under_a_numbered_stream(pair: Pair) -> None:  # S47
    targets = [pair.target]
    for number in range(300):
        pair.client.send(str(number))
        if number % 50 == 25:
            targets.append(pair.supervisor.actor())
            pair.client.send(f"sync{number}")
            targets[-2].expect(m.ClientMessage, lambda record, n=number: record.data == f"sync{n}")
            targets[-2].send(m.ClientControl((1,), targets[-1].pid, f"topic{number}", None, None))
            for extra in range(5):
                pair.client.send(f"x{number}.{extra}")
            pair.supervisor.retarget(targets[-1])
    pair.client.close()
    sent = [str(number) for number in range(300)]
    received = []
    for target in targets:
        joined = target is pair.target
        while True:
            record = target.next()
            if isinstance(record, m.Join):
                assert not joined
                joined = True
            elif isinstance(record, m.Leave):
                break
            else:
                assert joined
                received.append(record.data)
        assert record.reason == ("client_closed" if target is targets[-1] else "transferred")
    assert [data for data in received if data.isdigit()] == sent
    marks = dict(pair.supervisor.ended()[2])
    assert {target.number: target.read_count for target in targets} == marks  # S14


def test_a_failed_transfer(pair: Pair) -> None:  # S48
    pair.target.send(m.ClientControl((1,), "nobody", None, None, None))
    asked = pair.supervisor.expect(m.Retarget)
    pair.supervisor.send(m.Refused(asked.request, "NotFound", "no process is registered as nobody"))
    error = pair.target.expect(m.ControlError)
    assert (error.pid, error.target) == (pair.pid, "nobody")
    pair.client.send("still here")
    assert pair.target.next() == m.ClientMessage(1, "still here")


def test_a_stranger_may_not_transfer(pair: Pair) -> None:  # S48
    stranger = pair.supervisor.actor()
    stranger.send(m.ClientControl((1,), stranger.pid, None, None, None))
    assert "only the current target" in stranger.expect(m.ControlError).error


@pytest.mark.parametrize("succeeds", [True, False])
def test_send_control_then_return(pair: Pair, succeeds: bool) -> None:  # S48
    heir = pair.supervisor.actor()
    pair.target.send(m.ClientControl((1,), heir.pid, None, None, None))
    pair.target.end("normal")
    asked = pair.supervisor.expect(m.Retarget)
    if succeeds:
        pair.supervisor.send(m.Admitted(asked.request, heir.pid, heir.number))
        heir.expect(m.Join)
        pair.client.send("hello")
        assert heir.next() == m.ClientMessage(1, "hello")
    else:
        pair.supervisor.send(m.Refused(asked.request, "NotFound", ""))
        assert pair.closed() == (1000, "normal")


# --- clients and workers that misbehave -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code", "leave"),
    [
        (frame(3, b""), 1002, "protocol_error"),
        (frame(1, b"x", rsv=0x40), 1002, "protocol_error"),
        (b"\x81\x01x", 1002, "protocol_error"),  # unmasked
        (frame(0, b"x"), 1002, "protocol_error"),
        (frame(8, b"\x03\xed"), 1002, "protocol_error"),  # a Close with 1005
        (frame(1, b"\xff\xfe"), 1007, "protocol_error"),
        (frame(8, b"\x03\xe8\xff"), 1007, "protocol_error"),
        (frame(2, b"x" * 100_001), 1009, "too_big"),
        (frame(2, b"x" * 60_000, fin=False) + frame(0, b"x" * 60_000), 1009, "too_big"),
        (frame(1, "ü".encode() * 60_000), 1009, "too_big"),
    ],
)
def test_a_client_that_breaks_the_protocol(pair: Pair, data: bytes, code: int, leave: str) -> None:  # S46, S49
    pair.client.send("before")
    pair.client.socket.sendall(data)
    assert pair.closed()[0] == code
    pair.client.close()
    assert pair.target.next() == m.ClientMessage(1, "before")
    assert pair.target.next() == m.Leave(1, leave, code)
    assert pair.supervisor.ended()[1].kind == f"ws_closed:{code}"


@pytest.mark.parametrize("kind", ["garbage", "frame", "control", "close", "response"])
def test_a_worker_that_writes_garbage_is_reported_alone(pair: Pair, kind: str) -> None:  # S11
    culprit = pair.supervisor.actor()
    if kind == "garbage":
        culprit.send_raw(b"\xc1\xff\x00")
    elif kind == "frame":
        culprit.send(m.Join(1, pair.pid, "t", b"", False))
    elif kind == "control":
        culprit.send(m.ClientControl((1,), "x", "ws.join", None, None))
    elif kind == "close":
        culprit.send(m.ClientClose((1,), 1005, ""))
    else:
        culprit.send(m.Response("{node@h|00000000000000aa.s.77}", 200, (), b""))
    assert pair.supervisor.expect(m.ReportViolation).worker == culprit.number
    culprit.wait_end()
    culprit.end("protocol")
    pair.client.send("unharmed")
    assert pair.target.next() == m.ClientMessage(1, "unharmed")


def test_a_channel_that_ends_waits_for_the_notice(pair: Pair) -> None:  # S13
    pair.target.send(m.ClientSend((1,), "last"))
    pair.target.close()
    assert pair.client.recv(timeout=10) == "last"
    pair.client.send("to nobody")
    pair.target.end("signal:SIGKILL", close=False)
    assert pair.closed() == (1011, "signal:SIGKILL")


def test_a_worker_that_lives_without_its_channel_is_reported(pair: Pair) -> None:  # S13, S43
    pair.target.close()
    assert pair.supervisor.expect(m.ReportLost).worker == pair.target.number
    pair.target.end("noconnection", close=False)
    assert pair.closed() == (1011, "noconnection")


def test_a_channel_that_takes_nothing_any_more_is_reported(pair: Pair) -> None:  # S43
    pair.target.channel._socket.shutdown(socket.SHUT_RD)
    pair.client.send("to nobody")
    assert pair.supervisor.expect(m.ReportLost).worker == pair.target.number
    pair.target.end("noconnection")
    assert pair.closed() == (1011, "noconnection")


def test_a_sign_of_life(supervisor: Any) -> None:  # S41
    supervisor.send(m.Ping(7), m.Ping(8))
    assert [supervisor.expect(m.Pong).number for _ in range(2)] == [7, 8]


def send_until_blocked(raw: socket.socket, data: memoryview) -> memoryview:
    """Send until the gateway reads no more; return what is left."""
    while data and select.select([], [raw], [], 0.3)[1]:
        data = data[raw.send(data[:65536]) :]
    return data


def test_a_slow_target_stops_its_clients_and_loses_nothing(supervisor: Any, open_pair: Callable[..., Pair]) -> None:
    other = open_pair()  # S53
    function, target = supervisor.function_worker(), supervisor.actor()
    raw = raw_client.connect(supervisor, handshake(b"/ws/x"))
    with raw:
        supervisor.grant(function)
        supervisor.answer(function, headers=relay(target.pid))
        supervisor.admit(target)
        target.expect(m.Join)
        total = 600
        left = memoryview(b"".join(frame(1, b"%06d" % number + b"x" * 50_000) for number in range(total)))
        size = len(left)
        left = send_until_blocked(raw, left)
        assert size - len(left) < 20_000_000, "the gateway's memory is not bounded"
        other.client.send("not held up")
        assert other.target.expect(m.ClientMessage).data == "not held up"
        received, deadline = 0, time.monotonic() + 30
        while received < total:
            assert time.monotonic() < deadline, f"{received} of {total} came"
            left = left[raw.send(left[:65536]) :] if left and select.select([], [raw], [], 0)[1] else left
            if not target.inbox:
                target.pump(0.01)
            while target.inbox:
                assert target.inbox.pop(0).data[:6] == f"{received:06}"
                received += 1
    assert target.expect(m.Leave).reason == "connection_lost"


def test_a_target_that_stays_slow_costs_the_client_the_connection(serve: Any, open_pair: Callable[..., Pair]) -> None:
    supervisor = serve(limits=Limits(inbound=50_000), timeouts=Timeouts(stall=0.2), ping=Ping(0.05, 0.05))
    pair = open_pair(using=supervisor)  # S53: 1013, and no ping timeout meanwhile
    thread = threading.Thread(target=lambda: [pair.client.send("x" * 40_000) for _ in range(40)])
    with contextlib.suppress(ConnectionClosed):
        thread.start()
    code = pair.closed()
    thread.join()
    assert code == (1013, "slow target")


def test_a_slow_client_is_closed_and_holds_up_nobody(open_pair: Callable[..., Pair], serve: Any) -> None:  # S54
    supervisor = serve(limits=Limits(outbound=200_000), timeouts=Timeouts(close=0.3, write=60.0))
    pair, other = open_pair(using=supervisor, options={"close_timeout": 0.1}), open_pair(using=supervisor)
    # The client's own thread stops reading once its queue of messages is full.
    for _ in range(300):
        pair.target.send(m.ClientSend((1,), b"x" * 60_000))
    assert pair.target.expect(m.Leave) == m.Leave(1, "slow_client", 1013)
    assert supervisor.ended()[1].kind == "ws_closed:1013"
    other.client.send("hello")
    assert other.target.next() == m.ClientMessage(2, "hello")


def test_a_client_that_takes_nothing_for_too_long(open_pair: Callable[..., Pair], serve: Any) -> None:  # S54
    supervisor = serve(limits=Limits(outbound=1 << 28), timeouts=Timeouts(close=0.2, write=0.3))
    pair = open_pair(using=supervisor, options={"close_timeout": 0.1})
    for _ in range(300):
        pair.target.send(m.ClientSend((1,), b"x" * 60_000))
    assert pair.target.expect(m.Leave) == m.Leave(1, "slow_client", 1013)


def test_pings_and_a_client_that_does_not_answer(serve: Any, open_pair: Callable[..., Pair]) -> None:  # S55, S49
    supervisor = serve(ping=Ping(0.05, 0.1))
    function, target = supervisor.function_worker(), supervisor.actor()
    raw = raw_client.connect(supervisor, handshake(b"/ws/x"))
    with raw, raw.makefile("rb") as stream:
        supervisor.grant(function)
        supervisor.answer(function, headers=relay(target.pid))
        supervisor.admit(target)
        while stream.readline() != b"\r\n":
            pass
        for _ in range(3):  # answered pings keep it alive
            assert stream.read(2) == b"\x89\0"
            raw.sendall(frame(10, b""))
        assert stream.read(2) == b"\x89\0"
        head = stream.read(2)
        assert (head[0], stream.read(head[1])) == (0x88, b"\x03\xf3ping timeout")
        raw.sendall(frame(8, b"\x03\xf3"))
        assert stream.read() == b""
    assert target.expect(m.Leave) == m.Leave(1, "timeout", 1011)
    assert supervisor.ended()[1].kind == "ws_closed:1011"


def test_a_client_that_does_not_complete_the_close(serve: Any, open_pair: Callable[..., Pair]) -> None:  # S46, S51
    supervisor = serve(timeouts=Timeouts(close=0.2))
    function, target = supervisor.function_worker(), supervisor.actor()
    raw = raw_client.connect(supervisor, handshake(b"/ws/x"))
    with raw:
        supervisor.grant(function)
        supervisor.answer(function, headers=relay(target.pid))
        supervisor.admit(target)
        target.send(m.ClientClose((1,), 1000, ""))
        raw.sendall(frame(1, b"too late"))
        assert isinstance(target.next(), m.Join)
        assert target.next() == m.Leave(1, "closed", 1000)
    assert supervisor.ended()[1].kind == "ws_closed:1006"


def test_heartbeats_come_while_it_is_open(open_pair: Callable[..., Pair]) -> None:  # S55
    pair = open_pair(heartbeat_interval="20ms")
    first = pair.target.expect(m.Heartbeat)
    assert (first.connection, first.message_count) == (1, 0)
    pair.client.send("one")
    assert pair.target.expect(m.Heartbeat, lambda beat: beat.message_count == 1).uptime > first.uptime
    heir = pair.supervisor.actor()
    pair.target.send(m.ClientControl((1,), heir.pid, None, None, 0))
    pair.supervisor.retarget(heir)
    pair.target.expect(m.Leave)
    pair.client.send("two")
    heir.expect(m.ClientMessage)
    pair.client.close()
    heir.expect(m.Leave)
    assert not [record for record in heir.inbox if isinstance(record, m.Heartbeat)]


def test_compression_is_bounded_and_off_by_default(open_pair: Callable[..., Pair], serve: Any) -> None:
    pair = open_pair(options={"compression": "deflate"})
    assert "Sec-WebSocket-Extensions" not in pair.client.response.headers
    supervisor = serve(limits=Limits(message=100_000, compression=True))
    pair = open_pair(using=supervisor, options={"compression": "deflate"})
    assert "permessage-deflate" in pair.client.response.headers["Sec-WebSocket-Extensions"]
    pair.client.send("a" * 100_000)
    assert pair.target.next() == m.ClientMessage(1, "a" * 100_000)
    pair.target.send(m.ClientSend((1,), "b" * 100_000))
    assert pair.client.recv(timeout=10) == "b" * 100_000
    pair.client.send(b"\0" * 30_000_000)
    assert pair.closed()[0] == 1009


def test_shutdown_closes_all_with_1001(open_pair: Callable[..., Pair]) -> None:  # S49
    pairs = [open_pair(), open_pair()]
    supervisor = pairs[0].supervisor
    supervisor.send(m.Shutdown())
    for pair in pairs:
        assert pair.closed() == (1001, "shutdown")
        assert pair.target.expect(m.Leave).reason == "shutdown"
    supervisor.expect(m.ShutdownComplete)
    assert [supervisor.ended()[1].kind for _ in pairs] == ["normal", "normal"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", supervisor.ports["app:gateway"]), timeout=10)
