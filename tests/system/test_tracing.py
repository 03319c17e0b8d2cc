"""Spans of a real runtime, as a collector receives them: of handshakes, of the messages that a handler asks for, and of nothing else."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.collector import CONSUMER, ERROR, SERVER, Collector, Span, collecting
from support.fork_server import host_of
from support.runtime import (
    GATEWAY,
    PROCESSES,
    ROUTER,
    Entries,
    Runtime,
    actor,
    endpoint,
    running_runtime,
    write_application,
)
from support.waiting import wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection
from wsrelay.kernel.wire.pid import Pid

COMMAND = Path(sys.executable).with_name("wsrelay")
SECRET = "correct-horse-battery-staple"
PARENT_TRACE, PARENT_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = {"traceparent": f"00-{PARENT_TRACE}-{PARENT_SPAN}-01", "tracestate": "vendor=7"}
UNSAMPLED = {"traceparent": f"00-{PARENT_TRACE}-{PARENT_SPAN}-00"}
SOURCE = """
    import asyncio, os, signal, sys
    from wsrelay.workers import http, process

    def connect():
        http.response().relay_to(process.spawn("app:echo", "app:processes"), metadata={"token": "SECRET"})

    def connect_async():
        http.response().relay_to(process.spawn("app:echoes", "app:processes"))

    def connect_room():
        connect()

    def raises():
        raise RuntimeError("SECRET")

    def denies():
        http.response().set_status(401)

    def dead():
        http.response().relay_to("nobody")

    def lingers():
        signal.pause()

    def answer(message):
        client, data = message.payload["client_pid"], message.payload["data"]
        if data == "modules":
            data = f"{sorted(name for name in sys.modules if name.startswith('opentelemetry'))}"
        elif data == "child":
            from opentelemetry import trace
            with trace.get_tracer("application").start_as_current_span("query"):
                data = "done"
        elif data == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        elif data == "upgrade":
            process.upgrade()
        elif data == "transfer":
            process.send(client, "ws.control", {"target_pid": process.spawn("app:echo", "app:processes")})
            return
        elif data == "raise":
            raise RuntimeError("SECRET")
        process.send(client, "ws.send", {"type": "text", "data": data})

    def echo():
        for message in process.inbox():
            match message.topic:
                case "ws.join":
                    with process.trace(message):
                        pass
                    process.send(message.sender, "ws.send", {"data": "joined"})
                case "ws.message" if message.payload["data"].startswith("quiet "):
                    answer(message)
                case "ws.message":
                    with process.trace(message):
                        answer(message)
                case "ws.leave":
                    with process.trace(message):
                        return

    async def echoes():
        async for message in process.inbox():
            if message.topic == "ws.message":
                with process.trace(message):
                    await asyncio.sleep(0)
                    answer(message)
            elif message.topic == "ws.leave":
                return
""".replace("SECRET", SECRET)
SOURCES = {"app.py": SOURCE}
TRACED = {**GATEWAY, "tracing": "opentelemetry"}


ROUTES = {
    "/ws": "connect",
    "/async": "connect_async",
    "/rooms/{name}": "connect_room",
    "/raises": "raises",
    "/denies": "denies",
    "/dead": "dead",
    "/lingers": "lingers",
}


def entries(gateway: Mapping[str, Any] = TRACED, host: Mapping[str, Any] = PROCESSES) -> Entries:
    routes = [each for path, function in ROUTES.items() for each in endpoint(path, function)]
    return [gateway, host, ROUTER, *routes, actor("echo"), actor("echoes")]


@contextlib.contextmanager
def running(
    tmp_path: Path,
    collector: Collector,
    application: Entries | None = None,
    sources: Mapping[str, str] = SOURCES,
    **variables: str,
) -> Iterator[Runtime]:
    environment = {**collector.environment, **variables}
    with running_runtime(tmp_path, application or entries(), sources, environment=environment) as runtime:
        yield runtime


@contextlib.contextmanager
def connected(runtime: Runtime, path: str = "/ws", **options: Any) -> Iterator[ClientConnection]:
    """A client whose target has handled its join."""
    with runtime.connect(path, **options) as client:
        if "async" not in path:
            assert client.recv(30) == "joined"
        yield client


def ask(client: ClientConnection, data: str) -> str:
    client.send(data)
    answer = client.recv(30)
    assert isinstance(answer, str)
    return answer


def refused(runtime: Runtime, path: str, **options: Any) -> int:
    with pytest.raises(InvalidStatus) as refusal, runtime.connect(path, **options):
        pass
    return refusal.value.response.status_code


def check_linked(messages: Sequence[Span], handshake: Span) -> None:
    """Short traces of their own, each linked to the handshake and not part of it."""
    for span in messages:
        assert (span.kind, span.parent_id, span.scope) == (CONSUMER, "", "wsrelay.workers")
        assert span.links == ((handshake.trace_id, handshake.span_id),)
        assert span.resource["service.name"] == "relay"
    traces = [span.trace_id for span in messages]
    assert len({*traces, handshake.trace_id}) == len(traces) + 1


# --- what is there ----------------------------------------------------------------------------------------------------


def test_a_handshake_and_the_messages_that_the_handler_asks_for(tmp_path: Path) -> None:
    with collecting() as collector, running(tmp_path, collector) as runtime:
        path = f"/rooms/blue?token={SECRET}"
        with connected(runtime, path, additional_headers={**PARENT, "Authorization": SECRET}) as client:
            [handshake] = collector.wait_for(1, "GET /rooms/{name}")  # it has ended, and the connection is open
            assert ask(client, f"{SECRET} 1") == f"{SECRET} 1"
            assert ask(client, f"quiet {SECRET}") == f"quiet {SECRET}"
            assert ask(client, "child") == "done"
        messages = collector.wait_for(2, "process ws.message")
        [join], [leave] = collector.wait_for(1, "process ws.join"), collector.wait_for(1, "process ws.leave")
        [query] = collector.wait_for(1, "query")
        assert (handshake.kind, handshake.status, handshake.links, handshake.events) == (SERVER, 0, (), 0)
        assert (handshake.trace_id, handshake.parent_id) == (PARENT_TRACE, PARENT_SPAN)
        assert (handshake.scope, handshake.resource["service.name"]) == ("wsrelay.gateway", "relay")
        connection, target = (str(handshake.attributes[f"wsrelay.{name}.pid"]) for name in ("connection", "target"))
        assert Pid(connection).parts.host == "app:gateway"
        assert Pid(target).parts.host == "app:processes"
        assert handshake.attributes == {
            "http.request.method": "GET", "url.scheme": "http", "url.path": "/rooms/blue", "http.route": "/rooms/{name}",
            "http.response.status_code": 101, "wsrelay.server": "app:gateway", "wsrelay.function": "app:connect_room",
            "wsrelay.connection.pid": connection, "wsrelay.target.pid": target, "wsrelay.target.entry": "app:echo",
        }  # fmt: skip
        check_linked([join, *messages, leave], handshake)
        assert messages[0].attributes == {
            "messaging.system": "wsrelay", "messaging.operation.name": "process", "messaging.operation.type": "process",
            "messaging.destination.name": "ws.message", "wsrelay.connection.pid": connection, "wsrelay.target.pid": target,
            "wsrelay.target.entry": "app:echo",
        }  # fmt: skip
        assert (query.trace_id, query.parent_id) == (messages[1].trace_id, messages[1].span_id)
        assert SECRET.encode() not in collector.raw


def test_a_refused_handshake(tmp_path: Path) -> None:
    with collecting() as collector, running(tmp_path, collector) as runtime:
        cases = {
            "/raises": (500, ERROR, {}),
            "/dead": (503, ERROR, {}),
            "/denies": (401, 0, {}),
            "/ws": (403, 0, {"origin": "https://elsewhere.example"}),
            "/async": (426, 0, {"additional_headers": {"Sec-WebSocket-Version": "12"}}),
        }
        for path, (status, outcome, options) in cases.items():
            assert refused(runtime, path, **options) == status
            [span] = collector.wait_for(1, f"GET {path}")
            assert (span.attributes["http.response.status_code"], span.status) == (status, outcome)
            assert span.attributes.get("error.type") == (str(status) if outcome else None)
            assert (span.parent_id, span.events) == ("", 0)
            assert "wsrelay.target.pid" not in span.attributes
        assert SECRET.encode() not in collector.raw


def test_a_client_that_is_gone_before_its_answer(tmp_path: Path) -> None:
    with collecting() as collector, running(tmp_path, collector) as runtime:
        with socket.create_connection(("127.0.0.1", runtime.port())) as client:
            client.sendall(
                b"GET /lingers HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
        [span] = collector.wait_for(1, "GET /lingers")
        assert (span.attributes["error.type"], span.status) == ("connection_lost", ERROR)
        assert "http.response.status_code" not in span.attributes


def test_an_async_handler(tmp_path: Path) -> None:
    with collecting() as collector, running(tmp_path, collector) as runtime, connected(runtime, "/async") as client:
        assert [ask(client, data) for data in ("a", "child")] == ["a", "done"]
        [handshake] = collector.wait_for(1, "GET /async")
        messages = collector.wait_for(2, "process ws.message")
        check_linked(messages, handshake)
        assert collector.wait_for(1, "query")[0].parent_id == messages[1].span_id


def test_a_handler_that_raises(tmp_path: Path) -> None:
    with collecting() as collector, running(tmp_path, collector) as runtime:
        with connected(runtime) as client, pytest.raises(ConnectionClosed):
            ask(client, "raise")
        [span] = collector.wait_for(1, "process ws.message")
        assert (span.status, span.attributes["error.type"], span.events) == (ERROR, "RuntimeError", 0)
        assert SECRET.encode() not in collector.raw


def test_after_a_transfer_and_an_upgrade(tmp_path: Path) -> None:
    # S35, S47: the trace goes with the connection. The span in which the code is replaced is lost, and none before it.
    with collecting() as collector, running(tmp_path, collector, OTEL_BSP_SCHEDULE_DELAY="60000") as runtime:
        with connected(runtime, additional_headers=PARENT) as client:
            client.send("transfer")
            assert client.recv(30) == "joined"
            client.send("upgrade")
            assert ask(client, "again") == "again"
        wait_until(lambda: len(collector.named("process ws.leave")) == 2, message="the last leave")
        assert runtime.stop() == 0
        [handshake] = collector.named("GET /ws")
        spans = [span for name in ("ws.join", "ws.message", "ws.leave") for span in collector.named(f"process {name}")]
        assert [span.name for span in spans] == [
            *["process ws.join"] * 2, *["process ws.message"] * 2, *["process ws.leave"] * 2,
        ]  # fmt: skip
        check_linked(spans, handshake)
        assert {span.attributes["wsrelay.connection.pid"] for span in spans} == {
            handshake.attributes["wsrelay.connection.pid"]
        }


def test_what_is_left_when_all_stops_is_exported(tmp_path: Path) -> None:
    with collecting() as collector, running(tmp_path, collector, OTEL_BSP_SCHEDULE_DELAY="60000") as runtime:
        with connected(runtime) as client:
            assert ask(client, "a") == "a"
            assert collector.spans == []
        collector.wait_for(1, "process ws.leave")  # a stop gives an actor half a second
        assert runtime.stop() == 0
        assert sorted(span.name for span in collector.spans) == [
            "GET /ws", "process ws.join", "process ws.leave", "process ws.message",
        ]  # fmt: skip


def test_the_spans_of_a_killed_worker_are_lost_and_no_others(tmp_path: Path) -> None:
    with collecting() as collector, running(tmp_path, collector, OTEL_BSP_SCHEDULE_DELAY="60000") as runtime:
        with connected(runtime) as client, pytest.raises(ConnectionClosed):
            ask(client, "crash")
        assert runtime.stop() == 0
        assert [span.name for span in collector.spans] == ["GET /ws"]


def test_a_tracer_provider_of_the_applications_own(tmp_path: Path) -> None:
    own = """
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor

        trace.set_tracer_provider(TracerProvider(resource=Resource({"service.name": "application"})))
        trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
    """
    sources = {"app.py": textwrap.dedent(own) + textwrap.dedent(SOURCE)}
    with collecting() as collector, running(tmp_path, collector, sources=sources) as runtime:
        with connected(runtime) as client:
            assert ask(client, "a") == "a"
        [span] = collector.wait_for(1, "process ws.message")
        assert span.resource["service.name"] == "application"
        assert collector.wait_for(1, "GET /ws")[0].resource["service.name"] == "relay"


# --- what is not there ------------------------------------------------------------------------------------------------


def test_nothing_without_tracing(tmp_path: Path) -> None:
    with collecting() as collector, running(tmp_path, collector, entries(GATEWAY)) as runtime:
        with connected(runtime, additional_headers=PARENT) as client:
            assert ask(client, "modules") == "[]"
        assert psutil.Process(runtime.gateway).num_threads() == 2  # its own, and the log's
        assert runtime.stop() == 0
        assert collector.headers == []


def test_sampling_decides_for_a_connection_as_a_whole(tmp_path: Path) -> None:
    with collecting() as collector, running(tmp_path, collector) as runtime:
        with connected(runtime, additional_headers=UNSAMPLED) as client:
            assert ask(client, "a") == "a"
        with connected(runtime) as client:
            assert ask(client, "b") == "b"
        collector.wait_for(1, "process ws.leave")
        assert runtime.stop() == 0
        [handshake] = collector.named("GET /ws")
        check_linked(collector.named("process ws.message"), handshake)
        assert len(collector.spans) == 4


@pytest.mark.parametrize("variables", [{"OTEL_TRACES_SAMPLER": "always_off"}, {"OTEL_SDK_DISABLED": "true"}], ids=str)
def test_what_the_standard_variables_turn_off(tmp_path: Path, variables: dict[str, str]) -> None:
    with collecting() as collector, running(tmp_path, collector, **variables) as runtime:
        with connected(runtime, additional_headers=PARENT) as client:
            assert ask(client, "a") == "a"
        assert runtime.stop() == 0
        assert collector.spans == []


def test_a_collector_that_is_not_there_stops_nothing(tmp_path: Path) -> None:
    with collecting() as collector:
        nobody = {**collector.environment}
    with running_runtime(tmp_path, entries(), SOURCES, environment=nobody) as runtime:
        with connected(runtime) as client:
            assert ask(client, "a") == "a"
        wait_until(lambda: not any(one.entry == "app:echo" for one in runtime.ps()), 30.0, "the target to end")


def test_a_fork_server_stays_single_threaded(tmp_path: Path) -> None:
    with collecting() as collector, running(tmp_path, collector) as runtime, connected(runtime) as client:
        assert "opentelemetry.sdk.trace" in ask(client, "modules")
        assert collector.wait_for(1, "process ws.message")
        assert psutil.Process(host_of(runtime)).num_threads() == 1
        assert "thread" not in runtime.log()


# --- what cannot be had -----------------------------------------------------------------------------------------------


def without_the_extra(tmp_path: Path) -> dict[str, str]:
    """Variables with which Python finds no OpenTelemetry: one that cannot be imported stands in its way."""
    stub = tmp_path / "without" / "opentelemetry"
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'opentelemetry'\", name=__name__)")
    return {"PYTHONPATH": str(stub.parent)}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (None, "tracing: needs the extra opentelemetry: pip install 'wsrelay[opentelemetry]'"),
        ({"OTEL_TRACES_EXPORTER": "jaeger"}, "tracing: OTEL_TRACES_EXPORTER is 'jaeger', expected otlp"),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "tracing: OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc', expected http/protobuf",
        ),
    ],
    ids=["without the extra", "another exporter", "another protocol"],
)
def test_what_cannot_be_had_is_an_error_at_the_start(
    tmp_path: Path, variables: dict[str, str] | None, expected: str
) -> None:
    folder = tmp_path / "application"
    write_application(folder, entries(), SOURCES)
    environment = {**os.environ, **(without_the_extra(tmp_path) if variables is None else variables)}
    assert subprocess.run([COMMAND, "check", folder], env=environment, check=False).returncode == 0
    run = subprocess.run(
        [COMMAND, "run", folder], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 1
    assert f"_index.yaml:7:12: {expected}" in run.stderr
    assert "Traceback" not in run.stderr
    assert "serving app:" not in run.stderr


def test_an_application_without_tracing_needs_no_extra(tmp_path: Path) -> None:
    environment = without_the_extra(tmp_path)
    with running_runtime(tmp_path, entries(GATEWAY), SOURCES, environment=environment) as runtime:
        with connected(runtime) as client:
            assert ask(client, "a") == "a"
        reload_with(runtime, entries(), 1, "needs the extra opentelemetry")
        with connected(runtime) as client:
            assert ask(client, "b") == "b"


def test_a_reload_turns_it_on_and_off(tmp_path: Path) -> None:
    with collecting() as collector, running(tmp_path, collector, entries(GATEWAY)) as runtime:
        with connected(runtime) as old:
            reload_with(runtime, entries(), 0)
            with connected(runtime) as client:
                assert ask(client, "a") == "a"
            assert ask(old, "b") == "b"
            [handshake] = collector.wait_for(1, "GET /ws")
            check_linked(collector.wait_for(1, "process ws.message"), handshake)
            reload_with(runtime, entries(GATEWAY), 0)
            with connected(runtime) as client:
                assert ask(client, "c") == "c"
            assert "new code" not in runtime.log()
        collector.wait_for(1, "process ws.leave")
        assert runtime.stop() == 0
        assert len(collector.spans) == 4


def reload_with(runtime: Runtime, application: Entries, expected: int, message: str = "") -> None:
    write_application(runtime.folder, application, SOURCES)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime.temporary)}
    run = subprocess.run([COMMAND, "reload"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == expected, run.stderr
    assert message in run.stderr
