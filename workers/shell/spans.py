"""The spans of messages, made with OpenTelemetry. Imported by `tracing` for the first of them, or ahead of the fork.

Owns the providers of this process, which are made after the fork, with the first span: that starts the thread that exports. An
application that has set a tracer provider of its own has these spans there. At the end of the handler what is left is exported,
within a bound; of a process that is killed it is lost.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..core.items import Message
from ..core.traces import Trace

FLUSH_PATIENCE: Final = 1.0
"""Seconds that the end of a process waits for a collector."""

_propagator = TraceContextTextMapPropagator()
# Made ahead of the fork: it starts no thread and opens no connection, and imports much (requests, ssl) that is shared then.
_exporter = OTLPSpanExporter()
_processor: BatchSpanProcessor | None = None


@functools.cache
def _tracer() -> trace.Tracer:
    """Return the tracer of messages. Its spans are all recorded: whether a connection is, its handshake has decided. What the
    handler does within them is sampled as the environment says."""
    global _processor
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):  # the application has set none
        _processor = BatchSpanProcessor(_exporter)
        general = TracerProvider(shutdown_on_exit=False)
        provider = TracerProvider(ALWAYS_ON, general.resource, shutdown_on_exit=False)
        for each in (general, provider):
            each.add_span_processor(_processor)
        trace.set_tracer_provider(general)
        atexit.register(flush)
    return provider.get_tracer("wsrelay.workers")


@contextlib.contextmanager
def message_span(handshake: Trace, message: Message, pid: str, entry: str) -> Iterator[None]:
    """The span of one message, which is the current one meanwhile; linked to that of the handshake, and not its child."""
    linked = trace.get_current_span(_propagator.extract(dict(handshake))).get_span_context()
    # After the semantic conventions for messaging. A message's content, and what an exception says of it, is not among them.
    attributes = {
        "messaging.system": "wsrelay",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": message.topic,
        "wsrelay.connection.pid": str(message.sender),
        "wsrelay.target.pid": str(pid),
        "wsrelay.target.entry": entry,
    }
    with _tracer().start_as_current_span(
        f"process {message.topic}",
        kind=trace.SpanKind.CONSUMER,
        attributes=attributes,
        links=[trace.Link(linked)],
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except Exception as error:
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(trace.StatusCode.ERROR)
            raise


def flush() -> None:
    """Export what has ended, in a thread of its own: who waits for that does so within a bound."""
    if _processor is not None:
        thread = threading.Thread(target=_processor.force_flush, name="wsrelay-flush-spans", daemon=True)
        thread.start()
        thread.join(FLUSH_PATIENCE)
