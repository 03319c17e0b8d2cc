"""The head of an HTTP request, as routing and handlers need it.

Owns what is taken from the raw head, and its size. Knows nothing of bodies or connections.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from ...kernel.wire.messages import Request
from .forwarded import TrustedProxies

_HOST = re.compile(
    rb"(?:\[(?:[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?|[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+)\]"
    rb"|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)
"""RFC 3986 §3.2.2, with a zone (RFC 6874), and a port: an IP literal, or a name, which may be an IPv4 address or empty."""

RawHeaders = Sequence[tuple[bytes, bytes]]


class RequestHead(NamedTuple):
    """`path` is decoded, `query` is not. `remote_address` is the client's, empty if it has none."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    remote_address: str
    scheme: str
    host: str

    def header(self, name: str) -> str | None:
        """Return the first header of this name, in lower case."""
        return next((value for other, value in self.headers if other == name), None)

    def to_record(self, pid: str, parameters: tuple[tuple[str, str], ...], body: bytes) -> Request:
        """Return the Request of the invocation `pid`."""
        return Request(
            pid, self.method, self.path, parameters, self.query, self.headers, body, self.remote_address, self.host
        )


def make_head(
    method: str, path: str, query: bytes, headers: RawHeaders, peer: str, scheme: str, proxies: TrustedProxies
) -> RequestHead:
    """Build the head; `peer` is the address at the other end of the socket, `headers` have names in lower case."""
    client = proxies.resolve(peer, scheme, headers)
    decoded = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    host = next((value for name, value in decoded if name == "host"), "")
    return RequestHead(method, path, query.decode("latin-1"), tuple(decoded), client.address, client.scheme, host)


def framing_is_ambiguous(http_version: bytes, headers: RawHeaders) -> bool:
    """Whether a server before us may see the body end elsewhere: Transfer-Encoding beside Content-Length, or in HTTP/1.0, which
    has none (RFC 9112 §6.1). `headers` have names in lower case."""
    names = [name for name, _ in headers]
    return b"transfer-encoding" in names and (b"content-length" in names or http_version < b"1.1")


def host_is_served(headers: RawHeaders, hosts: Collection[str]) -> bool:
    """Whether the request is for one of these hosts, in lower case, at any port. No hosts stand for any."""
    if not hosts:
        return True
    host = next((value for name, value in headers if name == b"host"), b"").decode("latin-1").lower()
    return re.sub(r":[0-9]*$", "", host) in hosts


def host_is_malformed(headers: RawHeaders) -> bool:
    """Whether there is a Host header that names no host (RFC 9112 §3.2). `headers` have names in lower case."""
    return bool([value for name, value in headers if name == b"host" and _HOST.fullmatch(value) is None])


def upgrade_asked(headers: RawHeaders) -> bytes | None:
    """Return what the connection is to be upgraded to, in lower case; None if it is not to be. Where a header comes more than once, the last
    counts. `headers` have names in lower case."""
    tokens: list[bytes] = []
    upgrade = None
    for name, value in headers:
        if name == b"connection":
            tokens = [token.strip() for token in value.lower().split(b",")]
        elif name == b"upgrade":
            upgrade = value.lower()
    return upgrade if b"upgrade" in tokens else None


def head_size(target_size: int, headers: RawHeaders) -> int:
    """Bytes of a request's head."""
    return target_size + sum([len(name) + len(value) + 4 for name, value in headers])
