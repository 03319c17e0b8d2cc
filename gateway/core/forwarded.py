"""Who the client is when a proxy stands before us.

Owns the reading of X-Forwarded-For and X-Forwarded-Proto. They are believed only from the peers that the configuration
trusts: anybody can write them. X-Forwarded-Host is never read; a proxy must pass on Host.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

UNIX_PEER = "unix"
"""How the configuration names whoever connects to a `unix:` socket."""

_HOP = re.compile(r"(?:(?P<v4>[0-9.]+)|\[(?P<v6>[^\]]*)\])(?::[0-9]{1,5})?|(?P<bare>.*)", re.ASCII | re.DOTALL)
"""An address, which has brackets or none; some proxies append the port."""
_ZONE = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)
"""RFC 6874. `ip_address` takes anything for one, and what a client makes up must not reach a log."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Client(NamedTuple):
    """An address (empty if there is none) and the scheme that the client used: `http` or `https`."""

    address: str
    scheme: str


class TrustedProxies:
    """The addresses and networks of `proxy.trusted`."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        """Raises ValueError for what is neither an address nor a network nor `unix`."""
        names = list(trusted)
        self._unix = UNIX_PEER in names
        self._networks = [ipaddress.ip_network(name, strict=False) for name in names if name != UNIX_PEER]

    def trusts(self, address: str) -> bool:
        """Whether the peer with this address may speak for others. An empty address is a peer on a `unix:` socket."""
        if not address:
            return self._unix
        if not self._networks:
            return False
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._networks)

    def resolve(self, peer: str, scheme: str, headers: Iterable[tuple[bytes, bytes]]) -> Client:
        """Return the client behind `peer`. `headers` have names in lower case."""
        if not self.trusts(peer):
            return Client(peer, scheme)
        address = peer
        hops: list[str] = []
        for name, value in headers:
            if name == b"x-forwarded-proto" and value.strip().lower() in (b"http", b"https"):
                scheme = value.strip().lower().decode()
            elif name == b"x-forwarded-for":
                hops += value.decode("latin-1").split(",")
        # Every proxy appends the peer it saw, so the last hop that is not a trusted proxy is the client.
        for hop in reversed(hops):
            parsed = _parse_hop(hop.strip())
            if parsed is None:
                break
            address = str(parsed)
            if not self.trusts(address):
                break
        return Client(address, scheme)


def _parse_hop(text: str) -> _Address | None:
    match = _HOP.fullmatch(text)
    return None if match is None else _parse(match["v4"] or match["v6"] or match["bare"] or "")


def _parse(text: str) -> _Address | None:
    if len(text) > 64:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id and _ZONE.fullmatch(address.scope_id) is None:
        return None
    return getattr(address, "ipv4_mapped", None) or address
