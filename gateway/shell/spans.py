"""The spans of handshakes, made with OpenTelemetry. Only `tracing` imports this, when a server asks for it.

Owns the provider of this process and its exporter: OTLP over HTTP, from a thread of the library's that takes what has ended in
batches. End point, headers, service name, sampling and the sizes of batches are the SDK's, from the standard OTEL_* variables.
"""

from __future__ import annotations

import os
from typing import Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ...kernel.wire.configuration import Route
from ..core.handshake_span import first_attributes, last_attributes, parent_headers, span_name
from ..core.requests import RequestHead
from .accounts import shown_path

EXPECTED: Final = (
    (("OTEL_TRACES_EXPORTER",), "otlp"),
    (("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf"),
)
"""What the standard variables may ask of the exporter, which the SDK leaves to who makes one: the first of each that is set."""

_propagator = TraceContextTextMapPropagator()


class Handshakes:
    """Makes spans for all servers of this gateway."""

    def __init__(self) -> None:
        """Raises ValueError if the environment asks for another exporter."""
        for names, expected in EXPECTED:
            name = next((name for name in names if os.environ.get(name)), names[0])
            if (given := os.environ.get(name) or expected) != expected:
                raise ValueError(f"{name} is {given!r}, expected {expected}")
        self._provider = TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("wsrelay.gateway")

    def begin(self, server: str, head: RequestHead, route: Route) -> HandshakeSpan:
        """The head of a handshake is there; its `traceparent` names the parent."""
        attributes = first_attributes(server, head, shown_path(head.path), route)
        parent = _propagator.extract(parent_headers(head))
        return HandshakeSpan(
            self._tracer.start_span(span_name(route), parent, trace.SpanKind.SERVER, attributes=attributes)
        )

    def flush(self) -> None:
        """Export what has ended."""
        self._provider.force_flush()


class HandshakeSpan:
    """One handshake's."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def trace(self) -> tuple[tuple[str, str], ...]:
        """The headers of W3C Trace Context; none if the span is not recorded, so that no other is linked to it."""
        carrier: dict[str, str] = {}
        if self._span.is_recording():
            _propagator.inject(carrier, trace.set_span_in_context(self._span))
        return tuple(carrier.items())

    def note(self, name: str, value: str) -> None:
        """Something has become known."""
        self._span.set_attribute(name, value)

    def end(self, status: int | None) -> None:
        """The handshake is answered, or its client gone."""
        if not self._span.is_recording():
            return
        attributes = last_attributes(status)
        self._span.set_attributes(attributes)
        if "error.type" in attributes:
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()
