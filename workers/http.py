"""What an HTTP handler (`function.python`) imports: the request that it answers, and its response.

from wsrelay.workers import http

def hello():
    name = http.request().query("name") or "world"
    http.response().write(f"Hello, {name}\\n")
"""

from __future__ import annotations

from .core.exchange import Request, Response
from .shell import invocation

__all__ = ["Request", "Response", "request", "response"]


def request() -> Request:
    """Return the request of this invocation (S57). Raises ProcessError outside of one."""
    return invocation.exchange()[0]


def response() -> Response:
    """Return the response of this invocation: 200 and empty until the handler says otherwise. Raises ProcessError
    outside of one."""
    return invocation.exchange()[1]
