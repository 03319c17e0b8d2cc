"""The head of an ordinary WebSocket handshake, without a parser of HTTP.

Owns the fast path for a connection that begins with one, as nearly all do that are relayed. h11 is its slow twin: it is given whatever is
not exactly such a head, from the first byte on. No head that is taken here has another meaning to h11, `tests/gateway/test_handshake_scanner.py`
compares the two. Knows nothing of what a handshake must say.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_HEAD: Final = re.compile(rb"GET (/[!-~]*+) HTTP/1\.1\r\n((?:[-!#$%&'*+.^_`|~0-9A-Za-z]++:[\t -~]*+\r\n)++)\r\n")
"""A part of what RFC 9112 allows: an origin-form, no obsolete folding, no bytes that are no ASCII, line ends as they are to be."""
_LEFT_TO_H11: Final = frozenset({b"content-length", b"transfer-encoding", b"expect"})
"""Who sends one of these has more to say than a handshake."""


class HandshakeHead(NamedTuple):
    """`headers` have names in lower case; `size` is in bytes, with the empty line."""

    target: bytes
    headers: list[tuple[bytes, bytes]]
    size: int


def scan_handshake(data: bytes) -> HandshakeHead | None:
    """Return the head that `data` starts with; None if it is not all there, or may be anything but an ordinary handshake."""
    match = _HEAD.match(data)
    if match is None:
        return None
    hosts = upgrades = 0
    headers = []
    for line in match[2].split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"host":
            hosts += 1
        elif name == b"upgrade":
            upgrades += 1
        elif name in _LEFT_TO_H11:
            return None
        headers.append((name, value.strip(b" \t")))
    if hosts != 1 or not upgrades:
        return None
    return HandshakeHead(match[1], headers, match.end())
