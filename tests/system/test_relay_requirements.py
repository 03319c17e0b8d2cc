"""The WebSocket relay, section by section of its requirements, seen by a WebSocket client that we did not write.

A client of `/ws` gives its target orders; a client of `/journal` is sent what the target sees, as `{"topic": …, "data": …}`.
"""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.clients import close_of
from support.runtime import GATEWAY, PROCESSES, Runtime, actor, endpoint, running_runtime
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

APP = """
    import json
    from wsrelay.workers import http, process

    HOST = "app:processes"

    def open_journal():
        pid = process.spawn("app:journal", HOST)
        process.registry.register("journal", pid)
        http.response().relay_to("journal")

    def journal():
        reader = None
        for message in process.inbox():
            if message.topic == "ws.join":
                reader = message.payload["client_pid"]
                process.send(reader, "ready", None)
            elif message.topic == "note":
                process.send(reader, message.payload["topic"], message.payload["data"])

    def note(topic, data):
        process.send("journal", "note", {"topic": topic, "data": data})

    def open_ws():
        request, response = http.request(), http.response()
        pid = process.spawn("app:handler", HOST, "first")
        fields = json.loads(request.query("fields") or "{}")
        response.set_header("X-WS-Relay", json.dumps({"target_pid": str(pid), **fields}))

    def open_own():
        request, response = http.request(), http.response()
        pid = process.spawn("app:handler", HOST, "first")
        response.set_header("X-Extra", "kept")
        response.set_header("X-WS-Relay", json.dumps({
            "target_pid": str(pid),
            "message_topic": "ws.message",
            "heartbeat_interval": "30s",
            "metadata": {"user_id": request.query("user_id")},
        }))

    def open_bad():
        http.response().set_header("X-WS-Relay", http.request().query("value"))

    def open_plain():
        response = http.response()
        response.set_status(418)
        response.write("no relay here")

    def open_broken():
        raise RuntimeError("a secret")

    def plain(value):
        if isinstance(value, bytes):
            return {"bytes": value.hex()}
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return value

    def handler(name):
        for message in process.inbox():
            note("seen", {"by": name, "topic": message.topic, "payload": plain(message.payload)})
            if message.topic in ("ws.message", "custom.topic") and message.payload["type"] == "text":
                order = json.loads(message.payload["data"])
                if order["do"] == "return":
                    return
                ORDERS[order["do"]](message.payload["client_pid"], order)

    def other():
        for message in process.inbox():
            process.send(message.payload["client"], "ws.send", {"type": "text", "data": "from somebody else"})

    def observer(client):
        process.set_options(trap_links=True)
        ref = process.monitor(client)
        process.link(client)
        note("watching", None)
        while True:
            match process.receive():
                case process.Exit(sender=sender, ref=fired, reason=reason):
                    note("exit", {"same": sender == client and fired == ref, "kind": reason.kind, "clean": reason.clean})
                case process.LinkDown(sender=sender, reason=reason):
                    note("link_down", {"same": sender == client, "kind": reason.kind})

    def text(client, order):
        process.send(client, "ws.send", {"type": "text", "data": json.dumps({"event": "update", "value": 42})})

    def binary(client, order):
        process.send(client, "ws.send", {"type": "binary", "data": bytes(range(256))})

    def close(client, order):
        process.send(client, "ws.close", {"code": order["code"], "reason": order["reason"]})

    def news(client, order):
        process.send(client, "any.topic", {"value": [1, None, "x"]})

    def ask_other(client, order):
        process.send(process.spawn("app:other", HOST), "go", {"client": client})

    def observe(client, order):
        process.spawn("app:observer", HOST, client)

    def transfer(client, order):
        target = process.spawn("app:handler", HOST, "second")
        process.send(client, "ws.control", {"target_pid": target, **order.get("fields", {})})

    def transfer_dead(client, order):
        dead, ref = process.spawn_monitored("app:nothing", HOST)
        process.events().receive()
        process.send(client, "ws.control", {"target_pid": dead})

    def nothing():
        pass

    def fail(client, order):
        raise ValueError("a secret")

    ORDERS = {function.__name__: function for function in
              (text, binary, close, news, ask_other, observe, transfer, transfer_dead, fail)}

    def open_group():
        if process.registry.lookup("group") is None:
            process.registry.register("group", process.spawn("app:group", HOST))
        http.response().relay_to("group")

    def group():
        clients = set()
        for message in process.inbox():
            match message.topic:
                case "ws.join":
                    clients.add(message.payload["client_pid"])
                    process.send(clients, "count", len(clients))
                case "ws.leave":
                    clients.discard(message.payload["client_pid"])
                    process.send(clients, "count", len(clients))
                case "ws.message":
                    process.send(clients, "ws.send", {"type": "text", "data": message.payload["data"]})
"""


def router(name: str, prefix: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "http.router",
        "meta": {"server": "gateway"},
        "prefix": prefix,
        "post_middleware": ["websocket_relay"],
        **more,
    }


def entries() -> list[dict[str, Any]]:
    handlers = {
        "/ws": "open_ws",
        "/own": "open_own",
        "/bad": "open_bad",
        "/plain": "open_plain",
        "/group": "open_group",
    }
    made = [dict(GATEWAY), dict(PROCESSES), router("router", "/")]
    for path, method in {**handlers, "/broken": "open_broken", "/journal": "open_journal"}.items():
        made += endpoint(path, method)
    made.append(
        router(
            "strict",
            "/strict",
            post_options={"wsrelay.allowed.origins": "https://app.example.com, https://*.example.org"},
        )
    )
    strict = {"name": "strict.endpoint", "kind": "http.endpoint", "meta": {"router": "strict"}}
    made.append({**strict, "method": "GET", "path": "/ws", "func": "open_ws"})
    return made + [actor(name) for name in ("journal", "handler", "other", "observer", "nothing", "group")]


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    with running_runtime(tmp_path, entries(), {"app.py": APP}) as running:
        yield running


class Journal:
    """What the processes note, in the order in which they do."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        assert self.next() == ("ready", None)

    def next(self) -> tuple[str, Any]:
        """The next note: its topic and data."""
        note = json.loads(self._connection.recv(timeout=15))
        return note["topic"], note["data"]

    def seen(self) -> tuple[str, str, dict[str, Any]]:
        """The next message that a handler got: who, its topic and its payload."""
        topic, data = self.next()
        assert topic == "seen", (topic, data)
        return data["by"], data["topic"], data["payload"]


@contextlib.contextmanager
def journal(runtime: Runtime) -> Iterator[Journal]:
    with connect(runtime.ws_url("/journal")) as connection:
        yield Journal(connection)


def order(client: ClientConnection, do: str, **more: Any) -> None:
    client.send(json.dumps({"do": do, **more}))


def expect_close(client: ClientConnection, code: int, reason: str | None = None) -> None:
    closed = close_of(client)
    assert closed == (code, closed[1] if reason is None else reason)
    assert "secret" not in closed[1]


def refused(runtime: Runtime, path: str, **options: Any) -> InvalidStatus:
    with pytest.raises(InvalidStatus) as caught, connect(runtime.ws_url(path), **options):
        pass
    return caught.value


def test_a_handler_s_header_makes_a_relay_in_both_directions(runtime: Runtime) -> None:  # S44, S45
    with journal(runtime) as notes, connect(runtime.ws_url("/own?user_id=42")) as client:
        assert client.response is not None
        assert client.response.headers["X-Extra"] == "kept"
        assert "X-WS-Relay" not in client.response.headers
        by, topic, payload = notes.seen()
        assert (by, topic) == ("first", "ws.join")
        pid = payload["client_pid"]
        assert payload == {"client_pid": pid, "metadata": {"user_id": "42"}}
        order(client, "text")
        assert json.loads(client.recv(timeout=15)) == {"event": "update", "value": 42}
        assert notes.seen()[1:] == (
            "ws.message",
            {"client_pid": pid, "type": "text", "data": '{"do": "text"}', "metadata": {"user_id": "42"}},
        )
        client.send(b"\x00\xff")
        assert notes.seen()[2]["data"] == {"bytes": "00ff"}
        client.close(1000, "bye")
        _, topic, payload = notes.seen()
        assert topic == "ws.leave"
        assert payload == {
            "client_pid": pid,
            "reason": "client_closed",
            "code": 1000,
            "metadata": {"user_id": "42"},
        }


def test_defaults_of_the_relay_header(runtime: Runtime) -> None:
    with journal(runtime) as notes, connect(runtime.ws_url("/ws")) as client:
        assert notes.seen()[2]["metadata"] == {}
        order(client, "text")
        assert notes.seen()[1] == "ws.message"


def test_topic_and_heartbeat_of_the_relay_header(runtime: Runtime) -> None:  # S55
    fields = json.dumps({"message_topic": "custom.topic", "heartbeat_interval": "50ms", "metadata": {"a": [1, None]}})
    with journal(runtime) as notes, connect(runtime.ws_url("/ws?fields=" + fields.replace(" ", ""))) as client:
        pid = notes.seen()[2]["client_pid"]
        _, topic, first = notes.seen()
        assert topic == "ws.heartbeat"
        assert set(first) == {"client_pid", "uptime", "message_count", "metadata"}
        assert (first["client_pid"], first["message_count"], first["metadata"]) == (pid, 0, {"a": [1, None]})
        order(client, "text")
        seen = notes.seen()
        while seen[1] == "ws.heartbeat":
            seen = notes.seen()
        assert seen[1] == "custom.topic"
        _, topic, later = notes.seen()
        assert (topic, later["message_count"]) == ("ws.heartbeat", 1)
        assert later["uptime"] > first["uptime"] > 0


def test_a_malformed_relay_header_is_500(runtime: Runtime) -> None:  # S44
    heartbeat = '{"target_pid":"x","heartbeat_interval":"soon"}'
    for value in ("{", "[]", "{}", '{"target_pid":7}', heartbeat, '{"target_pid":"x","more":1}'):
        assert refused(runtime, f"/bad?value={value}").response.status_code == 500, value


def test_answers_that_are_no_relay(runtime: Runtime) -> None:
    unknown = refused(runtime, '/bad?value={"target_pid":"nobody"}')
    assert unknown.response.status_code == 503
    plain = refused(runtime, "/plain")
    assert (plain.response.status_code, plain.response.body) == (418, b"no relay here")
    broken = refused(runtime, "/broken")
    assert broken.response.status_code == 500
    assert b"secret" not in (broken.response.body or b"")
    assert refused(runtime, "/no/such/path").response.status_code == 404


def test_the_header_without_an_upgrade_is_426(runtime: Runtime) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(runtime.url("/own"))
    with caught.value as answer:
        assert answer.code == 426
        assert "X-WS-Relay" not in answer.headers


def test_any_process_can_send_to_a_connection(runtime: Runtime) -> None:  # S52
    with journal(runtime), connect(runtime.ws_url("/ws")) as client:
        order(client, "ask_other")
        assert client.recv(timeout=15) == "from somebody else"


def test_a_connection_can_be_monitored_and_linked(runtime: Runtime) -> None:  # S51, S52
    with journal(runtime) as notes, connect(runtime.ws_url("/ws")) as client:
        order(client, "observe")
        while notes.next()[0] != "watching":
            pass
        client.close(4000, "mine")
        ends = [note for note in (notes.next() for _ in range(3)) if note[0] != "seen"]
        assert sorted(ends) == [
            ("exit", {"same": True, "kind": "ws_closed:4000", "clean": False}),
            ("link_down", {"same": True, "kind": "ws_closed:4000"}),
        ]


def test_a_clean_end_of_a_connection_is_normal(runtime: Runtime) -> None:  # S51
    with journal(runtime) as notes, connect(runtime.ws_url("/ws")) as client:
        order(client, "observe")
        while notes.next()[0] != "watching":
            pass
        client.close()
        ends = [notes.next() for _ in range(2)]
        assert ("exit", {"same": True, "kind": "normal", "clean": True}) in ends


def test_the_connection_closes_with_its_target(runtime: Runtime) -> None:  # S49
    with journal(runtime):
        with connect(runtime.ws_url("/ws")) as client:
            order(client, "return")
            expect_close(client, 1000, "normal")
        with connect(runtime.ws_url("/ws")) as client:
            order(client, "fail")
            expect_close(client, 1011, "exception")


def test_transfer(runtime: Runtime) -> None:  # S47
    with journal(runtime) as notes, connect(runtime.ws_url("/own?user_id=7")) as client:
        pid = notes.seen()[2]["client_pid"]
        order(client, "transfer", fields={"message_topic": "custom.topic", "metadata": {"new": True}})
        notes.seen()
        seen = [notes.seen() for _ in range(2)]  # two targets: no order between them
        assert ("first", "ws.leave", {"client_pid": pid, "reason": "transferred", "code": None, "metadata": {"user_id": "7"}}) in seen  # fmt: skip
        assert ("second", "ws.join", {"client_pid": pid, "metadata": {"new": True}}) in seen
        order(client, "text")
        assert json.loads(client.recv(timeout=15))["value"] == 42
        assert notes.seen() == (
            "second",
            "custom.topic",
            {"client_pid": pid, "type": "text", "data": '{"do": "text"}', "metadata": {"new": True}},
        )
        order(client, "return")
        expect_close(client, 1000)


def test_a_transfer_to_a_dead_process_changes_nothing(runtime: Runtime) -> None:  # S48
    with journal(runtime) as notes, connect(runtime.ws_url("/ws")) as client:
        pid = notes.seen()[2]["client_pid"]
        order(client, "transfer_dead")
        notes.seen()
        by, topic, payload = notes.seen()
        assert (by, topic, payload["client_pid"]) == ("first", "ws.control_error", pid)
        assert set(payload) == {"client_pid", "target_pid", "error"}
        order(client, "text")
        assert json.loads(client.recv(timeout=15))["value"] == 42


def test_origins(runtime: Runtime) -> None:  # S44
    same = runtime.url("")
    with journal(runtime):
        for path, origin, allowed in (
            ("/ws", None, True),
            ("/ws", same, True),
            ("/ws", "https://app.example.com", False),
            ("/strict/ws", "https://app.example.com", True),
            ("/strict/ws", "https://one.example.org", True),
            ("/strict/ws", "http://app.example.com", False),
            ("/strict/ws", "https://app.example.com.evil.net", False),
            ("/strict/ws", same, False),
            ("/strict/ws", "null", False),
        ):
            if allowed:
                with connect(runtime.ws_url(path), origin=origin) as client:
                    order(client, "text")
                    assert client.recv(timeout=15)
            else:
                assert refused(runtime, path, origin=origin).response.status_code == 403, (path, origin)


def test_sending_to_a_client(runtime: Runtime) -> None:  # S49, S50, S52
    with journal(runtime) as notes, connect(runtime.ws_url("/ws")) as client:
        order(client, "text")
        assert json.loads(client.recv(timeout=15)) == {"event": "update", "value": 42}
        order(client, "binary")
        assert client.recv(timeout=15) == bytes(range(256))
        order(client, "news")
        assert json.loads(client.recv(timeout=15)) == {"topic": "any.topic", "data": {"value": [1, None, "x"]}}
        order(client, "close", code=4001, reason="Session ended")
        expect_close(client, 4001, "Session ended")
        leaves = [seen for seen in (notes.seen() for _ in range(6)) if seen[1] == "ws.leave"]
        assert [(leave[2]["reason"], leave[2]["code"]) for leave in leaves] == [("closed", 4001)]


def test_broadcast(runtime: Runtime) -> None:
    with contextlib.ExitStack() as stack:
        clients: list[ClientConnection] = []
        for count in range(1, 6):
            clients.append(stack.enter_context(connect(runtime.ws_url("/group"))))
            for client in clients:
                assert json.loads(client.recv(timeout=15)) == {"topic": "count", "data": count}
        clients[2].send("to everybody ✓")
        assert [client.recv(timeout=15) for client in clients] == ["to everybody ✓"] * 5
        clients.pop().close()
        assert [json.loads(client.recv(timeout=15))["data"] for client in clients] == [4] * 4


def test_the_runtime_stops_with_1001(runtime: Runtime) -> None:  # S49
    with connect(runtime.ws_url("/group")) as client:
        client.recv(timeout=15)
        runtime.process.terminate()
        expect_close(client, 1001)
    assert runtime.stop() == 0
