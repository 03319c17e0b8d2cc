"""A collector of spans, as far as a test needs one: OTLP over HTTP, decoded with OpenTelemetry's own protocol files.

with collecting() as collector:
    … a runtime with `collector.environment` …
    [span] = collector.wait_for(1, "GET /ws")
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from support.waiting import wait_until

ERROR = 2
"""STATUS_CODE_ERROR of OTLP."""
SERVER, CONSUMER = 2, 5
"""SPAN_KIND_SERVER and SPAN_KIND_CONSUMER."""


@dataclass(frozen=True)
class Span:
    """What has been exported."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, str | int]
    status: int
    links: tuple[tuple[str, str], ...]
    """Trace ids and span ids. (The exporter leaves out their trace state.)"""
    events: int
    seconds: float
    resource: dict[str, str | int]
    scope: str


class Collector:
    """What one has received. Use `collecting`."""

    def __init__(self, port: int) -> None:
        self.spans: list[Span] = []
        self.headers: list[dict[str, str]] = []
        """Of each request, with names in lower case."""
        self.raw = b""
        """All bodies."""
        self.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_SERVICE_NAME": "relay",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "NO_PROXY": "127.0.0.1",
        }

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        """A request has come."""
        assert path == "/v1/traces", path
        self.headers.append(headers)
        self.raw += body
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        for group in request.resource_spans:
            resource = _attributes(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [_span(each, resource, scope.scope.name) for each in scope.spans]

    def named(self, name: str) -> list[Span]:
        """The spans of this name, so far."""
        return [span for span in self.spans if span.name == name]

    def wait_for(self, count: int, name: str) -> list[Span]:
        """Wait for so many spans of this name, and return them."""
        seen = lambda: f"{count} spans {name}; there are {[span.name for span in self.spans]}"  # noqa: E731
        wait_until(lambda: len(self.named(name)) >= count, 30.0, seen)
        found = self.named(name)
        assert len(found) == count, found
        return found


def _attributes(given: Any) -> dict[str, str | int]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in given}


def _span(span: Any, resource: dict[str, str | int], scope: str) -> Span:
    return Span(
        name=span.name,
        kind=span.kind,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        attributes=_attributes(span.attributes),
        status=span.status.code,
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        events=len(span.events),
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        resource=resource,
        scope=scope,
    )


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """Collect on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.take(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
