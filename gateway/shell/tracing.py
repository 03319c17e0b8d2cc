"""Whether handshakes have spans, and what the gateway asks of whoever makes them.

Nothing of OpenTelemetry is imported before a server asks for it: `spans` is all that knows the library. A span is that of one
handshake, from the request's head to its answer, and never as long as a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Protocol

from ...kernel.wire.configuration import Route, Server
from ..core.requests import RequestHead

FLUSH_PATIENCE: Final = (0.3, 2.0)
"""Seconds that the end of the gateway waits for a collector: in any case, and at most."""


class Span(Protocol):
    """The span of one handshake."""

    @property
    def trace(self) -> tuple[tuple[str, str], ...]:
        """For `Join.trace`: none if the span is not recorded."""

    def note(self, name: str, value: str) -> None:
        """Something has become known: an attribute."""

    def end(self, status: int | None) -> None:
        """The handshake is answered, with this status; None if the client was gone before. A second time does nothing."""


class Tracing(Protocol):
    """Who makes the spans of one gateway."""

    def begin(self, server: str, head: RequestHead, route: Route) -> Span:
        """The head of a handshake is there."""

    def flush(self) -> None:
        """Block until what has ended is exported, or the exporter has given it up."""


_tracing: Tracing | None = None
"""Made for the first server that is traced; one for all of them."""


def tracing_of(server: Server) -> Tracing | None:
    """Return who makes the spans of a server; None if it is not traced. Raises ValueError if that cannot be had."""
    global _tracing
    if server.tracing is None:
        return None
    if _tracing is None:
        try:
            from .spans import Handshakes

            _tracing = Handshakes()
        except (ImportError, ValueError) as problem:
            place = f"{server.places['tracing']}: " if "tracing" in server.places else ""
            if isinstance(problem, ImportError):
                problem = ValueError(f"needs the extra opentelemetry: pip install 'wsrelay[opentelemetry]' ({problem})")
            raise ValueError(f"{place}tracing: {problem}") from problem
    return _tracing


async def flush(time_left: float) -> None:
    """Export what there is, unless that takes too long. `time_left` is what the shutdown has not used, in seconds."""
    if _tracing is not None:
        least, most = FLUSH_PATIENCE
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(_tracing.flush), max(least, min(time_left, most)))
