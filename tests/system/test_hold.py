"""Connections that outlive their handler, with real processes and clients (S56); targets that nobody joins (S44)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from support.clients import close_of
from support.puppet import PUPPET_ENTRIES, PUPPET_SOURCES, Puppet
from support.runtime import GATEWAY, Runtime, actor, endpoint, running_runtime
from support.waiting import wait_until
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

SOURCE = '''
    """A room that tells its clients all it gets, and registers its name when it is told to."""

    import json, os, signal
    from wsrelay.workers import http, process

    def open_room():
        "Any fields of the relay header, as they come."
        http.response().set_header("X-WS-Relay", http.request().query("header"))

    def room(name=None):
        if name:
            wait_for_its_turn(name)
        process.groups.join("rooms")
        for message in process.inbox():
            serve(message)

    def wait_for_its_turn(name):
        process.groups.join("waiting")
        for message in process.inbox():
            match message.payload:
                case "register":
                    process.registry.register(name)
                    return
                case "register and die":
                    process.registry.register(name)
                    os.kill(os.getpid(), signal.SIGKILL)
                case "raise":
                    raise ValueError("told to raise")

    def serve(message):
        match message.topic, message.payload:
            case "ws.join", payload:
                tell(message, "join", payload.get("resumed", False), payload["metadata"], message.sender, os.getpid())
            case "ws.message", {"data": "raise"}:
                raise ValueError("told to raise")
            case "ws.message", {"data": "return"}:
                raise SystemExit(0)
            case "ws.message", {"data": "hand over and raise"}:
                process.send(message.sender, "ws.control", {"target_pid": "nobody"})
                raise ValueError("told to raise")
            case "ws.message", {"data": str(data)} if data.startswith("hand over to "):
                process.send(message.sender, "ws.control", {"target_pid": data.removeprefix("hand over to ")})
            case "ws.message", {"data": data}:
                tell(message, "message", str(data))
            case "ws.leave", payload:
                process.groups.broadcast("observers", "left", [process.pid(), payload["reason"], payload["code"]])
            case "ws.heartbeat", payload:
                tell(message, "heartbeat", payload["message_count"])

    def tell(message, *what):
        process.send(message.sender, "ws.send", {"data": json.dumps([process.pid(), *what])})

    def open_slowly():
        "Spawns a target, and answers when it is told to."
        process.registry.register("handler")
        target = process.spawn("app:idle", "app:processes", name="target")
        process.inbox().receive(timeout=30)
        http.response().relay_to(target)
'''
SOURCES = {**PUPPET_SOURCES, "hold.py": SOURCE}
ENTRIES = [
    *PUPPET_ENTRIES,
    actor("room", source="file://hold.py"),
    *endpoint("/room", "open_room", source="file://hold.py"),
    *endpoint("/slow", "open_slowly", source="file://hold.py"),
]


def service(name: str, *args: str, register: str | None = None, **restart: Any) -> dict[str, Any]:
    policy = {"type": "permanent", "initial_delay": "10ms", "jitter": 0, **restart}
    entry = {"name": f"{name}.service", "kind": "process.service", "process": "room", "host": "processes"}
    return {
        **entry,
        "args": list(args),
        **({"register": register} if register else {}),
        "lifecycle": {"stop_timeout": "100ms", "restart": policy},
    }


@contextlib.contextmanager
def running(tmp_path: Path, *services: Mapping[str, Any], **gateway: Any) -> Iterator[tuple[Runtime, Puppet]]:
    """A runtime with these services, and a puppet that observes."""
    entries = [{**GATEWAY, **gateway} if entry == GATEWAY else entry for entry in ENTRIES]
    with running_runtime(tmp_path, [*entries, *services], SOURCES) as runtime, Puppet(runtime) as observer:
        observer.do("process.groups.join('observers')")
        yield runtime, observer


def url(runtime: Runtime, **fields: Any) -> str:
    header = {"target_pid": "room", "on_exit": "hold", "hold": {"for": "60s"}, "metadata": {"n": 1}, **fields}
    return runtime.ws_url("/room?" + urlencode({"header": json.dumps(header)}))


def members(observer: Puppet, group: str, other_than: tuple[str, ...] = ()) -> list[str]:
    """Wait until a group has members that are not these."""
    return wait_until(
        lambda: [pid for pid in observer.do("process.groups.members(group)", group=group) if pid not in other_than],
        message=f"{group} to have a member",
    )


def let_it(observer: Puppet, what: str, *other_than: str) -> str:
    """Tell the process that waits for its turn to do this; returns its PID."""
    [pid] = members(observer, "waiting", other_than)
    observer.do("process.send(pid, 'turn', what)", pid=pid, what=what)
    if what == "register":
        wait_until(lambda: observer.do("process.registry.lookup('room')") == pid, message="the name")
    return pid


class Client:
    """A client that has joined the room."""

    def __init__(self, runtime: Runtime, **fields: Any) -> None:
        self._context = connect(url(runtime, **fields), ping_interval=None)
        self.line: ClientConnection = self._context.__enter__()
        self.room, join, resumed, self.metadata, self.pid, self.os_pid = self.next()
        assert (join, resumed) == ("join", False)

    def next(self) -> list[Any]:
        """The next thing that a room tells: its PID and what it got."""
        told: list[Any] = json.loads(self.line.recv(timeout=15))
        return told

    def resumed_by(self) -> str:
        """Wait for the join by a new process, before which nothing comes; return its PID."""
        room, *told, self.os_pid = self.next()
        assert told == ["join", True, self.metadata, self.pid]
        return str(room)

    def says(self, *messages: str | bytes) -> None:
        for message in messages:
            self.line.send(message)

    def pong(self) -> bool:
        """Whether the gateway has read all that was sent, and answers."""
        return self.line.ping().wait(15)

    def code(self) -> int:
        return close_of(self.line)[0]

    def cut(self) -> None:
        """End the line without a Close frame."""
        self.line.socket.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.__exit__(None, None, None)


def wait_for_log(runtime: Runtime, text: str, count: int = 1) -> None:
    wait_until(lambda: runtime.log().count(text) >= count, message=lambda: f"{text!r} in the log:\n{runtime.log()}")


def test_the_service_takes_its_clients_up_again(tmp_path: Path) -> None:
    # S56, word by word: the name is registered by the process itself
    with running(tmp_path, service("room", "room")) as (runtime, observer):
        first = let_it(observer, "register")
        with Client(runtime, hold={"for": "60s", "bytes": 4096}) as client:
            assert (client.room, client.metadata) == (first, {"n": 1})
            client.says("one")
            assert client.next() == [first, "message", "one"]
            client.says("raise")
            [second] = members(observer, "waiting", (first,))
            # Nobody has the name: pings are answered, and messages kept, text and binary.
            assert client.pong()
            client.says("two", b"three")
            assert client.pong()
            client.says("four")
            let_it(observer, "register", first)
            assert client.resumed_by() == second
            for data in ("two", "b'three'", "four"):  # nothing of "one" and "raise", which the dead was handed
                assert client.next() == [second, "message", data]
            client.says("five")
            assert client.next() == [second, "message", "five"]
            client.line.close(1000)
        assert observer.do("take(1)") == [[second, "client_closed", 1000]]  # S45: one leave, to the living
        assert observer.do("mail") == []


def test_a_name_that_the_service_has_by_configuration(tmp_path: Path) -> None:
    # S36, S49: however it ended; without a hold its clients are closed with 1012
    with running(tmp_path, service("room", register="room", initial_delay="500ms")) as (runtime, observer):
        members(observer, "rooms")
        with Client(runtime) as client, Client(runtime, on_exit="close", hold=None) as plain:
            client.says("return")
            assert plain.code() == 1012
            client.says("kept")
            second = client.resumed_by()
            assert second != client.room
            assert client.next() == [second, "message", "kept"]


def test_heartbeats_rest_while_it_is_held(tmp_path: Path) -> None:  # S45, S55
    with running(tmp_path, service("room", "room")) as (runtime, observer):
        first = let_it(observer, "register")
        with Client(runtime, heartbeat_interval="20ms") as client:
            assert client.next() == [first, "heartbeat", 0]
            client.says("raise")
            [second] = members(observer, "waiting", (first,))
            client.says("kept")
            assert client.pong()
            let_it(observer, "register", first)
            told = client.next()
            while told[0] == first:
                told = client.next()
            assert told[:-1] == [second, "join", True, {"n": 1}, client.pid]
            assert client.next() == [second, "message", "kept"]
            assert client.next() == [second, "heartbeat", 2]


def test_over_time_is_1012_and_over_the_bound_1013(tmp_path: Path) -> None:  # S56
    with running(tmp_path, service("room", register="room", initial_delay="60s")) as (runtime, observer):
        members(observer, "rooms")
        with (
            Client(runtime, hold={"for": "200ms"}) as short,
            Client(runtime, hold={"for": "60s", "bytes": 2000}) as small,
            Client(runtime, hold={"for": "60s", "bytes": 100_000}) as flood,
        ):
            short.says("raise")
            assert short.code() == 1012
            small.says("x" * 1500)
            assert small.pong()
            small.says("x" * 1500)
            assert small.code() == 1013
            # Empty messages, as many as a write takes: each counts for what it costs.
            with contextlib.suppress(OSError):
                flood.line.socket.sendall(b"\x81\x80\0\0\0\0" * 100_000)
            assert flood.code() == 1013


def test_all_ends_of_a_held_connection(tmp_path: Path) -> None:
    # S49, S51, S52: it is a process like any other
    with contextlib.ExitStack() as stack:
        room = service("room", register="room", initial_delay="60s")
        runtime, observer = stack.enter_context(running(tmp_path, room))
        members(observer, "rooms")
        closes, cut, cancelled, terminated, linked, addressed, stays = (
            stack.enter_context(Client(runtime)) for _ in range(7)
        )

        def reason(client: Client) -> str:
            event = observer.event()
            assert (event["event"], event["sender"]) == ("exit", client.pid)
            return str(event["kind"])

        for client in (closes, cut, cancelled, terminated, linked, addressed):
            observer.do("process.monitor(pid)", pid=client.pid)
        stays.says("raise")
        wait_for_log(runtime, "backing off")

        # What others send reaches the client, and a stranger transfers nothing (S48).
        observer.do("process.send(pid, 'ws.send', {'data': 'news'})", pid=addressed.pid)
        assert addressed.line.recv(timeout=15) == "news"
        observer.do("process.send(pid, 'ws.control', {'target_pid': process.pid()})", pid=addressed.pid)
        assert "only the current target" in observer.do("take(1)")[0]["error"]
        observer.do("process.send(pid, 'ws.close', {'code': 4001})", pid=addressed.pid)
        assert (addressed.code(), reason(addressed)) == (4001, "ws_closed:4001")

        closes.line.close(1000)
        assert reason(closes) == "normal"
        cut.cut()
        assert reason(cut) == "ws_closed:1006"
        observer.do("process.cancel(pid)", pid=cancelled.pid)
        assert (cancelled.code(), reason(cancelled)) == (1001, "cancelled")
        observer.do("process.terminate(pid)", pid=terminated.pid)
        assert (terminated.code(), reason(terminated)) == (1011, "killed")
        peer = stack.enter_context(Puppet(runtime))
        peer.do("process.link(pid)", pid=linked.pid)
        peer.order("os._exit(3)")
        assert (linked.code(), reason(linked)) == (1011, "exit:3")  # S25

        runtime.process.send_signal(signal.SIGTERM)
        assert stays.code() == 1001
        assert runtime.stop() == 0


def test_a_service_that_is_given_up(tmp_path: Path) -> None:
    # S37, S49: while its clients are held
    with running(tmp_path, service("room", "room", intensity=1)) as (runtime, observer):
        first = let_it(observer, "register")
        with Client(runtime) as client:
            client.says("raise")
            let_it(observer, "raise", first)
            assert client.code() == 1011
        wait_for_log(runtime, "given up")


def test_a_second_death_while_they_resume(tmp_path: Path) -> None:
    # What the second process was handed is lost with it, whether it read it or not; what comes later is the third's.
    with running(tmp_path, service("room", "room")) as (runtime, observer):
        first = let_it(observer, "register")
        with Client(runtime) as client:
            client.says("raise")
            members(observer, "waiting", (first,))
            client.says("lost")
            assert client.pong()
            second = let_it(observer, "register and die", first)
            [third] = members(observer, "waiting", (first, second))
            client.says("kept")
            assert client.pong()
            let_it(observer, "register", first, second)
            assert client.resumed_by() == third
            told = client.next()
            while told != [third, "message", "kept"]:
                assert told == [third, "message", "lost"]  # it died before it was handed anything
                told = client.next()


def test_what_a_slow_target_was_not_handed_is_kept(tmp_path: Path) -> None:
    # S53, S56: the stream that the new process gets is a suffix of what was sent, without a gap (invariant 13)
    with running(tmp_path, service("room", "room"), limits={"inbound": "64KiB"}) as (runtime, observer):
        first = let_it(observer, "register")
        with Client(runtime, hold={"for": "60s", "bytes": 8 << 20}) as client:
            os.kill(client.os_pid, signal.SIGSTOP)
            numbers = [f"{number:08}" + "x" * 8000 for number in range(400)]
            client.says(*numbers)
            os.kill(client.os_pid, signal.SIGKILL)
            members(observer, "waiting", (first,))
            let_it(observer, "register", first)
            second = client.resumed_by()
            client.says("end")
            got = []
            while (told := client.next()) != [second, "message", "end"]:
                got.append(told[2])
            assert got == numbers[len(numbers) - len(got) :]
            assert got


def test_a_transfer_that_fails_as_the_target_dies(tmp_path: Path) -> None:
    # S48: the death waits for the outcome; then the connection is held
    with running(tmp_path, service("room", "room")) as (runtime, observer):
        first = let_it(observer, "register")
        with Client(runtime) as client:
            client.says("hand over and raise")
            members(observer, "waiting", (first,))
            client.says("kept")
            second = let_it(observer, "register", first)
            assert client.resumed_by() == second
            assert client.next() == [second, "message", "kept"]


@pytest.mark.parametrize("to", ["name", "pid"])
def test_what_a_transfer_does_to_the_hold(tmp_path: Path, to: str) -> None:
    # S47: a transfer to a name keeps it, with that name; one to a PID ends it
    other = {**service("other", register="other"), "args": []}
    with running(tmp_path, service("room", register="room"), other) as (runtime, observer):
        members(observer, "rooms")
        with Client(runtime) as client:
            pid = wait_until(lambda: observer.do("process.registry.lookup('other')"))
            client.says(f"hand over to {'other' if to == 'name' else pid}")
            assert client.next()[:-1] == [pid, "join", False, {"n": 1}, client.pid]
            client.says("raise")
            if to == "pid":
                assert client.code() == 1012
            else:
                assert client.resumed_by() not in (pid, client.room)


def test_the_gateway_dies_while_they_are_held(tmp_path: Path) -> None:  # S41
    with running(tmp_path, service("room", "room")) as (runtime, observer):
        first = let_it(observer, "register")
        with Client(runtime) as client:
            client.says("raise")
            second = members(observer, "waiting", (first,))
            os.kill(runtime.gateway, signal.SIGKILL)
            with pytest.raises(ConnectionClosed) as caught:
                client.line.recv(timeout=15)
            assert caught.value.rcvd is None
        with again(lambda: Puppet(runtime)) as observer:
            assert [let_it(observer, "register", first)] == second
            wait_until(lambda: observer.do("process.registry.lookup('room')") == second[0])
            with Client(runtime) as client:
                assert client.room == second[0]
                client.says("hello")
                assert client.next() == [second[0], "message", "hello"]


def again(make: Callable[[], Puppet]) -> Puppet:
    """Connect as soon as there is a gateway again."""

    def attempt() -> Puppet | None:
        with contextlib.suppress(OSError, InvalidHandshake, ConnectionClosed):
            return make()
        return None

    return wait_until(attempt, message="a new gateway")


def test_a_malformed_hold_is_500(tmp_path: Path) -> None:  # S44
    with running(tmp_path, service("room", register="room")) as (runtime, observer):
        members(observer, "rooms")
        for fields, problem in (
            ({"on_exit": "stay", "hold": None}, 'on_exit: expected "close" or "hold", got \'stay\''),
            ({"target_pid": observer.pid}, 'on_exit: "hold" expects target_pid to be a registered name'),
            ({"hold": {"for": "soon"}}, "hold: for: expected a duration"),
            ({"hold": {"bytes": 1 << 40}}, "hold: bytes: expected a whole number of bytes from 1 to 16777216"),
            ({"hold": {"until": 1}}, "hold: unknown field 'until'; expected bytes, for"),
        ):
            with pytest.raises(InvalidStatus) as caught:
                connect(url(runtime, **fields)).__enter__()
            assert caught.value.response.status_code == 500
            wait_for_log(runtime, f"app:open_room: malformed X-WS-Relay: {problem}")


# --- targets that nobody joins (S44) ----------------------------------------------------------------------------------


def test_a_target_whose_handshake_dies_with_the_gateway_is_terminated(tmp_path: Path) -> None:
    # The handler runs on, and answers to nobody; what it spawned for that answer is not left behind.
    with running(tmp_path) as (runtime, observer), socket.create_connection(("127.0.0.1", runtime.port())) as line:
        line.sendall(
            b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        target = wait_until(lambda: observer.do("process.registry.lookup('target')"))
        os.kill(runtime.gateway, signal.SIGKILL)
        with again(lambda: Puppet(runtime)) as other:
            other.do("process.monitor(target)", target=target)
            other.do("process.send('handler', 'go', None)")
            event = other.event()
            assert (event["sender"], event["kind"]) == (target, "killed")
            assert "the handshake that it was spawned for was not completed" in event["text"]
