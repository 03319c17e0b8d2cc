"""The opening handshake of RFC 6455, without a socket.

Owns the check of a client's request (S44: 400 before any handler runs) and the bytes of the answers: 101, or a rejection
with a status and a body. Knows nothing of routes, origins or targets.

The request has been parsed by h11, once; what is asked of its headers here is what wsproto asks, and so are the answers:
`tests/gateway/test_handshake.py` compares the two. The extensions are agreed on by wsproto.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from wsproto.connection import ConnectionType
from wsproto.events import RejectConnection, RejectData
from wsproto.extensions import Extension
from wsproto.handshake import H11Handshake, server_extensions_handshake

from .answers import Answer, framing_headers, plain_answer
from .deflate import BoundedDeflate

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455 §1.3."""
_VERSION: Final = b"13"
_REFUSED_IN_101 = frozenset({"content-type", "content-encoding", "sec-websocket-protocol", "sec-websocket-version"})


class HandshakeRefused(Exception):
    """The request is no WebSocket handshake; `answer` says so to the client."""

    def __init__(self, message: str, answer: Answer) -> None:
        super().__init__(message)
        self.answer = answer


class Handshake:
    """One client's handshake."""

    __slots__ = ("_extensions", "_key", "subprotocols")

    def __init__(self, method: bytes, http_version: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Check a request's head, as h11 has parsed it; the names of `headers` are in lower case. Raises HandshakeRefused."""
        self.subprotocols: list[str] = []
        """What the client offered."""
        self._extensions: list[str] = []
        if http_version != b"1.1":
            raise _bad("WebSocket needs HTTP/1.1")
        try:
            connection, upgrade, version, keys, host = self._read(headers)
        except ValueError:
            raise _bad("malformed header") from None
        self._key = _check_key(keys)
        # Where a header comes more than once, the last counts.
        if method != b"GET":
            raise _bad("Request method must be GET")
        if not any(token.lower() == "upgrade" for token in _tokens(connection)):
            raise _bad("Missing header, 'Connection: Upgrade'")
        if version != _VERSION:
            raise _wrong_version(version)
        if upgrade.lower() != b"websocket":
            raise _bad("Missing header, 'Upgrade: websocket'")
        if host is None:
            raise _bad("Missing header, 'Host'")

    def _read(
        self, headers: Iterable[tuple[bytes, bytes]]
    ) -> tuple[bytes, bytes, bytes | None, list[bytes], bytes | None]:
        """Return what the handshake is about. Raises ValueError for a header that is no text, HandshakeRefused for a body."""
        connection = upgrade = b""
        version: bytes | None = None
        host: bytes | None = None
        keys: list[bytes] = []
        for name, value in headers:
            if name == b"host":
                host = value
                if not value.isascii() or b"xn--" in value.lower():
                    value.decode("idna")
            elif name == b"connection":
                connection = value
                value.decode("ascii")
            elif name == b"upgrade":
                upgrade = value
            elif name == b"sec-websocket-key":
                keys.append(value)
            elif name == b"sec-websocket-version":
                version = value
            elif name == b"sec-websocket-protocol":
                self.subprotocols += _tokens(value)
            elif name == b"sec-websocket-extensions":
                self._extensions += _tokens(value)
            elif name in (b"content-length", b"transfer-encoding") and value.strip() != b"0":
                raise _bad("a handshake has no body")
        return connection, upgrade, version, keys, host

    def accept(
        self, headers: Iterable[tuple[str, str]], message_limit: int, *, compression: bool
    ) -> tuple[bytes, list[Extension]]:
        """Return the 101 and the extensions that were agreed on.

        `headers` are the handler's, cleaned. Its Sec-WebSocket-Protocol goes out if the client offered it.
        """
        token = base64.b64encode(hashlib.sha1(self._key + _GUID, usedforsecurity=False).digest())
        lines = [
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
            token,
            b"\r\n",
        ]
        extras = list(headers)
        chosen = next((value for name, value in extras if name == "sec-websocket-protocol"), None)
        if chosen is not None and chosen in self.subprotocols:
            lines.append(b"Sec-WebSocket-Protocol: %s\r\n" % chosen.encode("ascii"))
        supported: list[Extension] = []
        if compression and self._extensions:
            supported.append(BoundedDeflate(message_limit))
            if agreed := server_extensions_handshake(self._extensions, supported):
                lines.append(b"Sec-WebSocket-Extensions: %s\r\n" % agreed)
        for name, value in extras:
            if name not in _REFUSED_IN_101:
                lines.append(b"%s: %s\r\n" % (name.encode("ascii"), value.encode("latin-1")))
        lines.append(b"\r\n")
        return b"".join(lines), [extension for extension in supported if extension.enabled()]


def encode_rejection(answer: Answer) -> bytes:
    """Return a whole HTTP response that ends the connection."""
    handshake = H11Handshake(ConnectionType.SERVER)
    headers = [*framing_headers(answer), (b"connection", b"close")]
    data = handshake.send(RejectConnection(status_code=answer.status, headers=headers, has_body=True))
    return bytes(data + handshake.send(RejectData(data=answer.body, body_finished=True)))


def _check_key(keys: Sequence[bytes]) -> bytes:
    try:
        nonce = binascii.a2b_base64(keys[0], strict_mode=True) if len(keys) == 1 else b""
    except binascii.Error:
        nonce = b""
    if len(nonce) != 16:
        raise _bad("Sec-WebSocket-Key must be 16 bytes in base64")
    return keys[0]


def _tokens(value: bytes) -> list[str]:
    """The elements of a list in a header. Raises ValueError for what is no ASCII."""
    return [token.strip() for token in value.decode("ascii").split(",")]


def _bad(message: str) -> HandshakeRefused:
    return HandshakeRefused(message, plain_answer(400, f"Bad WebSocket handshake: {message}"))


def _wrong_version(version: bytes | None) -> HandshakeRefused:
    message = "Missing header, 'Sec-WebSocket-Version'"
    if not version:
        return _bad(message)
    headers = (("sec-websocket-version", "13"), ("upgrade", "websocket"))
    return HandshakeRefused(message, plain_answer(426, "Unsupported WebSocket version", headers))
