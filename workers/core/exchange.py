"""One HTTP request and the response to it, as a handler sees them (S57).

Everything that a handler puts into the response is checked at the call, so that what goes to the gateway can be written to
a client as it is. Knows nothing of channels.
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl

from ...kernel.wire import messages as wire
from ...kernel.wire.errors import Invalid, LimitExceeded
from ...kernel.wire.hold import parse_hold
from ...kernel.wire.pid import check_name, looks_like_pid
from .outgoing import check_pid, check_topic, milliseconds
from .packing import to_json

RELAY_HEADER = "X-WS-Relay"
_RELAY_LOWER = RELAY_HEADER.lower()
MAX_BODY = wire.MAX_FRAME - (256 << 10)
"""Bytes of a response's body: what fits into a frame beside the headers."""
MAX_HEADERS = 64 << 10
"""Bytes of a response's headers, names and values."""

_RELAY_FIELDS = ("message_topic", "heartbeat_interval", "metadata", "on_exit", "hold")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_GATEWAYS_OWN = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"})


class Request:
    """The request that a handler answers. A value that is missing is None."""

    __slots__ = ("_cookies", "_headers", "_parameters", "_query", "_wire", "host", "method", "path", "remote_addr")

    def __init__(self, request: wire.Request) -> None:
        self._wire = request
        self.method: str = request.method
        """`GET`, `POST`, …"""
        self.path: str = request.path
        """Without the query."""
        self.remote_addr: str = request.remote_address
        """The client's address."""
        self.host: str = request.host
        """What the client called the server: the Host header."""
        self._parameters: dict[str, str] | None = None
        self._query: dict[str, str] | None = None
        self._headers: dict[str, str] | None = None
        self._cookies: dict[str, str] | None = None

    def param(self, name: str) -> str | None:
        """A parameter of the route's path: `room` of `/rooms/{room}`."""
        if self._parameters is None:
            self._parameters = dict(self._wire.parameters)
        return self._parameters.get(name)

    def query(self, name: str) -> str | None:
        """A parameter of the query, decoded; the first of that name."""
        if self._query is None:
            pairs = parse_qsl(self._wire.query, keep_blank_values=True, errors="replace")
            self._query = dict(reversed(pairs))
        return self._query.get(name)

    def header(self, name: str) -> str | None:
        """A header, whatever the case of its name. Several of one name are joined by commas."""
        if self._headers is None:
            self._headers = {}
            for key, value in self._wire.headers:
                known = self._headers.get(key)
                separator = "; " if key == "cookie" else ", "
                self._headers[key] = value if known is None else f"{known}{separator}{value}"
        return self._headers.get(name.lower())

    def cookie(self, name: str) -> str | None:
        """A cookie; the first of that name, without quotes around its value."""
        if self._cookies is None:
            self._cookies = {}
            for part in (self.header("cookie") or "").split(";"):
                key, separator, value = part.strip().partition("=")
                if separator:
                    self._cookies.setdefault(key.strip(), _unquote(value.strip()))
        return self._cookies.get(name)

    def body(self) -> bytes:
        """The whole body."""
        return self._wire.body

    def json(self) -> Any:
        """The body, read as JSON. Raises Invalid if it is malformed."""
        try:
            return json.loads(self._wire.body)
        except (ValueError, RecursionError) as error:
            raise Invalid(f"the request's body is no JSON: {error}") from None


class Response:
    """The answer under construction: 200 and an empty body, until the handler says otherwise."""

    __slots__ = ("_body", "_content_type", "_headers", "_status", "named_target", "relay_target")

    def __init__(self) -> None:
        self.relay_target: str | None = None
        """What the relay header names, if one is set: the gateway's check of the rest is still to come."""
        self.named_target: str | None = None
        """The PID or the name that the handler has last named as the relay's target, even if that call raised (S44)."""
        self._status = 200
        self._headers: list[tuple[str, str]] = []
        self._body = bytearray()
        self._content_type: str | None = None

    def set_status(self, status: int) -> None:
        """Set the status, 200 to 599. Raises Invalid."""
        if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
            raise Invalid(f"expected a status of 200 to 599, got {status!r:.80}")
        self._status = int(status)

    def set_header(self, name: str, value: str) -> None:
        """Set a header; one of that name is replaced, except `Set-Cookie`, of which there may be several.

        Raises Invalid for a name that is no token, a value with a line break or another control character, and for the
        headers that the gateway writes itself; LimitExceeded over 64 KiB of headers.
        """
        if not isinstance(name, str) or _TOKEN.fullmatch(name) is None:
            raise Invalid(f"expected a header name, got {name!r:.80}")
        if not isinstance(value, str):
            raise Invalid(f"{name}: expected a str, got {type(value).__name__}")
        is_relay = name.lower() == _RELAY_LOWER
        target = _target_in(value) if is_relay else None
        self.named_target = target or self.named_target
        if _FORBIDDEN.search(value):
            raise Invalid(f"{name}: a header's value has no line breaks or other control characters")
        charset = "utf-8" if is_relay else "latin-1"
        if not _encodes(value, charset):
            raise Invalid(f"{name}: this header's value is {charset}; encode other characters, as %XX for example")
        if name.lower() in _GATEWAYS_OWN:
            raise Invalid(f"{name}: the gateway writes this header itself")
        self._replace_header(name, value.strip(" \t"))
        if is_relay:
            self.relay_target = target

    def _replace_header(self, name: str, value: str) -> None:
        lowered, headers = name.lower(), self._headers
        if lowered != "set-cookie":
            headers = [header for header in headers if header[0].lower() != lowered]
        headers = [*headers, (name, value)]
        if sum(len(key) + len(text.encode(errors="replace")) for key, text in headers) > MAX_HEADERS:
            raise LimitExceeded(f"the headers are larger than {MAX_HEADERS} bytes")
        self._headers = headers

    def write(self, data: str | bytes) -> None:
        """Append to the body; str goes as UTF-8. The first call sets the content type, unless there is one:
        `text/plain; charset=utf-8` for str, `application/octet-stream` for bytes. Raises Invalid, LimitExceeded."""
        if isinstance(data, str):
            try:
                encoded = data.encode()
            except UnicodeEncodeError:
                raise Invalid("the text is no UTF-8: it holds lone surrogates") from None
            self._append(encoded, "text/plain; charset=utf-8")
        elif isinstance(data, (bytes, bytearray, memoryview)):
            self._append(bytes(data), "application/octet-stream")
        else:
            raise Invalid(f"expected str or bytes, got {type(data).__name__}: write_json writes other values")

    def write_json(self, value: Any) -> None:
        """Append a value as JSON; content type `application/json`. Raises Invalid, which names the type, and LimitExceeded."""
        text = to_json(value, "the body")
        try:
            self._append(text.encode(), "application/json")
        except UnicodeEncodeError:
            raise Invalid("the body is no UTF-8: it holds lone surrogates") from None

    def relay_to(self, pid: str, **fields: Any) -> None:
        """Bind the WebSocket connection that this request asks for to `pid`, a PID or a registered name.

        `fields` are those of the relay header: `message_topic`, `heartbeat_interval` (a string with units, or seconds),
        `metadata` (a dict), and `on_exit` with `hold` (S56), for a name alone. None leaves one out. Raises Invalid.
        """
        is_name = isinstance(pid, str) and not looks_like_pid(pid)
        self.named_target = target = str(check_name(pid) if is_name else check_pid(pid))
        relay: dict[str, Any] = {"target_pid": target}
        for name, value in fields.items():
            if name not in _RELAY_FIELDS:
                raise Invalid(f"unknown field {name!r}: expected {', '.join(_RELAY_FIELDS)}")
            if value is None:
                continue
            if name == "message_topic":
                check_topic(value)
            elif name == "heartbeat_interval":
                value = f"{milliseconds(value, name)}ms"
            elif name == "metadata" and not isinstance(value, dict):
                raise Invalid(f"metadata: expected a dict, got {type(value).__name__}")
            relay[name] = value
        try:
            parse_hold(target, relay.get("on_exit"), relay.get("hold"))
        except ValueError as problem:
            raise Invalid(str(problem)) from None
        self._replace_header(RELAY_HEADER, to_json(relay, "the relay header", ascii=True))
        self.relay_target = target

    def _append(self, data: bytes, content_type: str) -> None:
        if len(self._body) + len(data) > MAX_BODY:
            raise LimitExceeded(f"the body is larger than {MAX_BODY} bytes")
        self._body += data
        self._content_type = self._content_type or content_type

    def to_wire(self, pid: str) -> wire.Response:
        """Return the record that answers the invocation `pid`."""
        headers = self._headers
        if self._content_type is not None and not any(name.lower() == "content-type" for name, _ in headers):
            headers = [*headers, ("Content-Type", self._content_type)]
        return wire.Response(pid, self._status, tuple(headers), bytes(self._body))


def _target_in(value: str) -> str | None:
    """The target that a relay header names, however wrong the rest of it is."""
    try:
        fields = json.loads(value)
    except (ValueError, RecursionError):
        return None
    target = fields.get("target_pid") if isinstance(fields, dict) else None
    return target if isinstance(target, str) and _encodes(target, "utf-8") else None


def _unquote(value: str) -> str:
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] == '"' else value


def _encodes(value: str, charset: str) -> bool:
    try:
        value.encode(charset)
    except UnicodeEncodeError:
        return False
    return True
