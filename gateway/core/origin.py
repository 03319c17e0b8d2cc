"""Which web pages may open a WebSocket here (S44).

Owns the comparison of origins (RFC 6454): exact scheme, host and port, with the default ports filled in. Without a
configured list only the server's own origin is allowed; with one, only what is listed. `https://*.example.com` stands for
any one whole label, and `*` alone for any origin at all. A request without an Origin header does not come from a browser's page, so it cannot be forged by one:
it is allowed. `null` (sandboxed frames, local files) is refused unless it is listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.*-]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
MAX_ORIGIN = 300
"""Characters of an Origin header that are looked at."""


class Origin(NamedTuple):
    """A scheme, the labels of a host (one, for an address), and a port."""

    scheme: str
    labels: tuple[str, ...]
    port: int | None


class AllowedOrigins:
    """The origins of one route."""

    def __init__(self, listed: Iterable[str] = ()) -> None:
        """`listed` as configured; none means same origin only. Raises ValueError for what is no origin."""
        self._null = False
        self._any = False
        self._patterns: list[Origin] = []
        self._same_origin = True
        for text in listed:
            self._same_origin = False
            if text.strip().lower() == "null":
                self._null = True
            elif text.strip() == "*":
                self._any = True
            else:
                self._patterns.append(_parse_pattern(text.strip()))

    def allow(self, origin: str | None, *, scheme: str, host: str) -> bool:
        """Whether a page of `origin` may connect to the server reached as `scheme` (http or https) and `host` (the
        Host header)."""
        if origin is None or self._any:
            return True
        if origin == "null":
            return self._null
        parsed = _parse(origin)
        if parsed is None or "*" in parsed.labels:
            return False
        if self._same_origin:
            return parsed == _own_origin(scheme, host)
        return any(_matches(pattern, parsed) for pattern in self._patterns)


def _labels(host: str) -> tuple[str, ...]:
    return (host,) if host.startswith("[") else tuple(host.split("."))


def _parse(text: str) -> Origin | None:
    if len(text) > MAX_ORIGIN:
        return None
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else _PORTS.get(match["scheme"])
    return Origin(match["scheme"], _labels(match["host"]), port)


def _parse_pattern(text: str) -> Origin:
    pattern = _parse(text)
    if pattern is None or any("*" in label and label != "*" for label in pattern.labels):
        raise ValueError(
            f"expected an origin such as https://app.example.com or https://*.example.com, got {text!r:.100}"
        )
    return pattern


def _own_origin(scheme: str, host: str) -> Origin | None:
    match = _AUTHORITY.fullmatch(host.lower())
    if match is None:
        return None
    return Origin(scheme, _labels(match["host"]), int(match["port"]) if match["port"] else _PORTS.get(scheme))


def _matches(pattern: Origin, origin: Origin) -> bool:
    return (
        pattern.scheme == origin.scheme
        and pattern.port == origin.port
        and len(pattern.labels) == len(origin.labels)
        and all(wanted in ("*", label) and label for wanted, label in zip(pattern.labels, origin.labels, strict=True))
    )
