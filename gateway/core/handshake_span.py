"""What a span of a handshake says: its name, its attributes, and what counts as an error.

After OpenTelemetry's semantic conventions for HTTP server spans, with the names of the runtime's own under `wsrelay.`. No query
string, no header, no address and no payload is among it. Knows nothing of the library that makes spans.
"""

from __future__ import annotations

from typing import Final

from ...kernel.wire.configuration import Route
from .requests import RequestHead

CONNECTION: Final = "wsrelay.connection.pid"
TARGET: Final = "wsrelay.target.pid"
ENTRY: Final = "wsrelay.target.entry"
TRACE_HEADERS: Final = ("traceparent", "tracestate")
"""Of W3C Trace Context."""

Attributes = dict[str, str | int]


def span_name(route: Route) -> str:
    """Return the name: the method and the route, which are few."""
    return f"{route.method} {route.path}"


def first_attributes(server: str, head: RequestHead, shown_path: str, route: Route) -> Attributes:
    """Return what is known when the request is there. `server` is the id of the `http.service`, `shown_path` the path of `head` as
    logs show it."""
    return {
        "http.request.method": head.method,
        "url.scheme": head.scheme,
        "url.path": shown_path,
        "http.route": route.path,
        "wsrelay.server": server,
        "wsrelay.function": route.function,
    }


def last_attributes(status: int | None) -> Attributes:
    """Return what is known when it has its answer; None if the client was gone before. With `error.type`, it has failed."""
    if status is None:
        return {"error.type": "connection_lost"}
    answered: Attributes = {"http.response.status_code": status}
    return answered if status < 500 else {**answered, "error.type": str(status)}


def parent_headers(head: RequestHead) -> dict[str, list[str]]:
    """Return the request's trace context, by header; none if it has not exactly one `traceparent`."""
    found = {name: [value for other, value in head.headers if other == name] for name in TRACE_HEADERS}
    return found if len(found["traceparent"]) == 1 else {}
