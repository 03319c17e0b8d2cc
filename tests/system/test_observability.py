"""Metrics and health of a real runtime, after traffic, crashes and closes that are known."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

from support.runtime import GATEWAY, Runtime, actor, application, endpoint, running_runtime
from support.scrape import Scrape, get, scrape
from support.waiting import wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

ADMIN = {"name": "admin", "kind": "http.admin", "addr": "127.0.0.1:0"}
SOURCES = {
    "app.py": """
        import os, signal
        from wsrelay.workers import http, process

        def connect():
            http.response().relay_to(process.spawn("app:echo", "app:processes"))

        def hello():
            http.response().write_json({"hello": 1})

        def echo():
            for message in process.inbox():
                if message.topic == "ws.message":
                    data = message.payload["data"]
                    if data == "crash":
                        os.kill(os.getpid(), signal.SIGKILL)
                    if data == "kick":
                        process.send(message.payload["client_pid"], "ws.close", {"code": 4321, "reason": "out"})
                    process.send(message.payload["client_pid"], "ws.send", {"type": "text", "data": data})
                elif message.topic == "ws.leave":
                    return

        def breaks():
            raise RuntimeError("it never runs")

        def lingers():
            while True:
                process.receive()
    """
}


def service(process: str, **lifecycle: object) -> dict[str, object]:
    return {
        "name": f"{process}.service", "kind": "process.service", "process": process, "host": "processes",
        "lifecycle": lifecycle,
    }  # fmt: skip


def close_code(client: ClientConnection) -> int:
    """Read up to the close; return its code, 1006 for a line that was cut."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            client.recv(30)
    return client.close_code or 0


def wait_for(runtime: Runtime, *expected: tuple[float, str, dict[str, str]]) -> Scrape:
    """Scrape until these samples have these values."""
    seen: list[Scrape] = []

    def wrong() -> list[str]:
        seen[:] = [scrape(runtime.url("/metrics", "app:admin"))]
        return [
            f"{name}{labels}: {seen[0].value(name, **labels)}, expected {value}"
            for value, name, labels in expected
            if seen[0].value(name, **labels) != value
        ]

    wait_until(lambda: not wrong(), 30.0, lambda: "; ".join(wrong()))
    return seen[0]


def test_numbers_after_known_traffic(tmp_path: Path) -> None:
    entries = application(endpoint("/ws", "connect"), endpoint("/hello", "hello"), actor("echo"), ADMIN)
    server = {"server": "app:gateway"}
    with running_runtime(tmp_path, entries, SOURCES, services=2) as runtime:
        assert get(runtime.url("/hello?token=secret"))[0] == 200
        assert get(runtime.url("/nowhere/secret", "app:gateway"))[0] == 404
        with runtime.connect("/ws") as client:
            for text in ("a", "bb", "ccc"):
                client.send(text)
                assert client.recv(30) == text
            seen = wait_for(runtime, (1, "connections", server), (1, "processes", {"entry": "app:echo"}))
            assert seen.value("messages_received_total", **server) == 3, "open connections count too"
            assert seen.value("messages_sent_total", **server) == 3
        with runtime.connect("/ws") as client:
            client.send("crash")
            assert close_code(client) == 1011
        with runtime.connect("/ws") as client:
            client.send("kick")
            assert close_code(client) == 4321
        for code in range(4000, 4004):  # a client's to choose: all of them are one label
            with runtime.connect("/ws") as client:
                client.close(code, "secret")
        with contextlib.closing(raw_client(runtime)):
            pass
        echo = "app:echo"
        seen = wait_for(
            runtime,
            (0, "connections", server),
            (0, "processes", {"entry": echo}),
            (8, "connections_opened_total", server),
            (1, "connections_closed_total", {**server, "code": "1000", "initiator": "client"}),
            (1, "connections_closed_total", {**server, "code": "1011", "initiator": "target"}),
            (1, "connections_closed_total", {**server, "code": "4xxx", "initiator": "process"}),
            (4, "connections_closed_total", {**server, "code": "4xxx", "initiator": "client"}),
            (1, "connections_closed_total", {**server, "code": "1006", "initiator": "line"}),
            (8, "connection_seconds_count", server),
            (5, "messages_received_total", server),
            (3, "messages_sent_total", server),
            (8, "spawns_total", {"entry": echo}),
            (7, "exits_total", {"entry": echo, "reason": "normal"}),
            (1, "exits_total", {"entry": echo, "reason": "signal:SIGKILL"}),
            (8, "exits_total", {"entry": "app:connect", "reason": "normal"}),
            (1, "exits_total", {"entry": "app:hello", "reason": "normal"}),
            (1, "crash_to_close_seconds_count", {}),
            (2, "function_workers_started_total", {"host": "app:processes"}),
            (10, "spawn_seconds_count", {}),
            (8, "http_requests_total", {**server, "status": "101"}),
            (1, "http_requests_total", {**server, "status": "200"}),
            (1, "http_requests_total", {**server, "status": "404"}),
        )
        check_measured(runtime, seen)
        for entry in (echo, "app:connect", "app:hello"):  # with 0, so that the first of them is an increase
            assert {"entry": entry, "reason": "limit:disk"} in seen.labels("exits_total")
        assert "secret" not in str(seen.samples)
        check_gateway_restart(runtime, seen)


def raw_client(runtime: Runtime) -> socket.socket:
    """A client that will cut its line."""
    client = socket.create_connection(("127.0.0.1", runtime.port("app:gateway")))
    client.sendall(
        b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert client.recv(12) == b"HTTP/1.1 101"
    return client


def check_measured(runtime: Runtime, seen: Scrape) -> None:
    """What grows, and what is measured of processes."""
    server = {"server": "app:gateway"}
    own = [
        {"process": "supervisor", "host": ""},
        {"process": "gateway", "host": ""},
        {"process": "host", "host": "app:processes"},
    ]
    assert seen.value("received_bytes_total", **server) > 5 * 6
    assert seen.value("sent_bytes_total", **server) > 8 * 129, "the 101 counts"
    assert seen.value("supervisor_up") == seen.value("ready") == 1
    for labels in own:
        assert labels in seen.labels("process_cpu_seconds_total")
        assert seen.value("process_resident_memory_bytes", **labels) > 1 << 20
    # Linux counts hundredths of a second, so the first measurement, which is kept for a while, may well be nothing.
    wait_until(
        lambda: all(
            scrape(runtime.url("/metrics", "app:admin")).value("process_cpu_seconds_total", **labels) > 0
            for labels in own
        ),
        30.0,
    )
    assert seen.value("workers") >= 2
    assert seen.value("workers_measured") >= 2
    assert seen.value("reaped_cpu_seconds_total") > 0
    assert seen.value("start_time_seconds", process="supervisor") <= seen.value("start_time_seconds", process="gateway")
    for process in ("supervisor", "gateway"):
        assert {"process": process} in seen.labels("loop_lag_seconds_count")


def check_gateway_restart(runtime: Runtime, before: Scrape) -> None:
    """What the supervisor counts outlives the gateway (S41)."""
    with runtime.connect("/ws") as client:
        client.send("here")
        assert client.recv(30) == "here"
        gateway = runtime.gateway
        os.kill(gateway, signal.SIGKILL)
        assert close_code(client) == 1006
    wait_until(lambda: "serves again" in runtime.log(), 30.0, runtime.log)
    seen = wait_for(
        runtime,
        (1, "gateway_restarts_total", {}),
        (1, "connections_lost_total", {}),
        (9, "spawns_total", {"entry": "app:echo"}),
        (0, "connections_opened_total", {"server": "app:gateway"}),
    )
    assert seen.value("spawn_seconds_count") >= before.value("spawn_seconds_count")


def test_what_is_served_and_where(tmp_path: Path) -> None:
    entries = application(actor("breaks"), service("breaks", restart={"initial_delay": "200ms", "intensity": 1}), ADMIN)
    with running_runtime(tmp_path, entries, SOURCES, services=2) as runtime:
        assert runtime.address("app:admin").startswith("http://127.0.0.1:")
        admin, public = (runtime.url("", name) for name in ("app:admin", "app:gateway"))
        assert get(admin + "/healthz") == (200, "ok\n")
        for path in ("/metrics", "/healthz", "/readyz"):
            assert get(public + path)[0] == 404, "not where clients are"
            assert get(admin + path, "POST")[0] == 405
        assert get(admin + "/metrics", "HEAD")[1] == ""
        assert get(admin + "/")[0] == get(admin + "/metrics/x")[0] == 404
        name = "app:breaks.service"
        wait_for(runtime, (1, "service_failed", {"service": name}), (1, "service_restarts_total", {"service": name}))
        assert get(admin + "/readyz") == (503, f"services that do not run: {name} (failed)\n")
        seen = wait_for(runtime, (2, "exits_total", {"entry": "app:breaks", "reason": "exception"}))
        assert seen.value("ready") == seen.value("service_running", service=name) == 0


def test_not_ready_while_it_stops(tmp_path: Path) -> None:
    entries = application(actor("lingers"), service("lingers", stop_timeout="60s"), ADMIN)
    with running_runtime(tmp_path, entries, SOURCES, services=2) as runtime:
        admin = runtime.url("", "app:admin")
        wait_until(lambda: get(admin + "/readyz") == (200, "ok\n"), 30.0, lambda: str(get(admin + "/readyz")))
        runtime.process.send_signal(signal.SIGTERM)
        wait_until(lambda: get(admin + "/readyz") == (503, "stopping\n"), 30.0, lambda: str(get(admin + "/readyz")))
        assert get(admin + "/healthz")[0] == 200
        wait_until(lambda: refuses(runtime.port("app:gateway")), 30.0, "the public listener to be closed")
        assert get(admin + "/readyz")[0] == 503, "it is served while the services are stopped"
        wait_until(lambda: insist(runtime), 30.0, runtime.log)


def insist(runtime: Runtime) -> bool:
    """Signal until it is taken for a second signal."""
    runtime.process.send_signal(signal.SIGTERM)
    return "stopping at once" in runtime.log()


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_no_admin_no_metrics(tmp_path: Path) -> None:
    with running_runtime(tmp_path, [GATEWAY], {}) as runtime:
        assert get(runtime.url("/metrics"))[0] == 404
