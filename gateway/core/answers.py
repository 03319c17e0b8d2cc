"""What is answered over HTTP: a status, headers and a body.

Owns the gateway's own short answers and the rules for a handler's: which headers it may not set, because they belong to the
connection or to the relay, and what no client may ever see.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, NamedTuple

from ...kernel.wire.reason import EXCEPTION, WireReason
from .relay_header import HEADER_NAME

Headers = tuple[tuple[str, str], ...]

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_OWN: Final = frozenset(
    {
        HEADER_NAME, "connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "trailer", "upgrade",
        "content-length", "date", "sec-websocket-accept", "sec-websocket-extensions",
    }
)  # fmt: skip
"""Headers that belong to the connection or to the gateway: removed from a handler's response (RFC 9110 §7.6.1)."""


class Answer(NamedTuple):
    """A complete response, without the framing headers."""

    status: int
    headers: Headers = ()
    body: bytes = b""


def plain_answer(status: int, text: str | None = None, headers: Headers = ()) -> Answer:
    """A short answer of the gateway in plain text; by default the status's own phrase."""
    body = (text or HTTPStatus(status).phrase) + "\n"
    return Answer(status, (("content-type", "text/plain; charset=utf-8"), *headers), body.encode())


def overloaded(text: str) -> Answer:
    """503 with Retry-After (S58)."""
    return plain_answer(503, text, (("retry-after", "1"),))


def upgrade_required() -> Answer:
    """426: the endpoint is for WebSocket clients (RFC 9110 §15.5.22)."""
    return plain_answer(426, "This address is for WebSocket clients", (("upgrade", "websocket"),))


def answer_for_end(reason: WireReason) -> Answer:
    """What a client gets when the handler's process ended without an answer (S58): 500 if it raised, otherwise 502."""
    raised = reason.kind == EXCEPTION and reason.origin is None  # with an origin it is another's, come down a link
    return plain_answer(500) if raised else plain_answer(502)


def clean_answer(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> Answer:
    """A handler's response without the headers that are not its own. Raises ValueError if it cannot be sent."""
    if not 200 <= status <= 599:
        raise ValueError(f"status {status} is no final status")
    kept = []
    for name, value in headers:
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise ValueError(f"the header {name!r:.60} is malformed")
        value.encode("latin-1")
        if name.lower() not in _OWN:
            kept.append((name.lower(), value.strip(" \t")))
    if status in (204, 304):
        body = b""
    return Answer(status, tuple(kept), body)


def framing_headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    """The answer's headers as bytes, with its content-length where one belongs (RFC 9110 §8.6)."""
    encoded = [(name.encode("ascii"), value.encode("latin-1")) for name, value in answer.headers]
    if answer.status not in (204, 304):
        encoded.append((b"content-length", b"%d" % len(answer.body)))
    return encoded
