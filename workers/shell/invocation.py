"""The HTTP request and the response of the invocation that runs in this process; one at a time (S57)."""

from __future__ import annotations

from ...kernel.wire.errors import ProcessError
from ..core.exchange import Request, Response

_exchange: tuple[Request, Response] | None = None


def begin(request: Request, response: Response) -> None:
    """An invocation starts."""
    global _exchange
    _exchange = request, response


def end() -> None:
    """It has ended."""
    global _exchange
    _exchange = None


def exchange() -> tuple[Request, Response]:
    """Return the request and the response. Raises ProcessError outside of an invocation."""
    if _exchange is None:
        raise ProcessError("there is no HTTP request here: http works only while a function.python handler runs")
    return _exchange
