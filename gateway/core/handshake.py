"""The opening handshake of RFC 6455, without a socket.

Owns the check of a client's request (S44: 400 before any handler runs) and the bytes of the answers: 101, or a rejection
with a status and a body. Knows nothing of routes, origins or targets.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Sequence

from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, RejectConnection, RejectData, Request
from wsproto.extensions import Extension
from wsproto.handshake import H11Handshake
from wsproto.utilities import ProtocolError, RemoteProtocolError

from .answers import Answer, framing_headers, plain_answer
from .deflate import BoundedDeflate

_BODY = (b"content-length", b"transfer-encoding")
_REFUSED_IN_101 = frozenset({"content-type", "content-encoding", "sec-websocket-protocol", "sec-websocket-version"})


class HandshakeRefused(Exception):
    """The request is no WebSocket handshake; `answer` says so to the client."""

    def __init__(self, message: str, answer: Answer) -> None:
        super().__init__(message)
        self.answer = answer


class Handshake:
    """One client's handshake."""

    def __init__(
        self, method: bytes, target: bytes, http_version: bytes, headers: Sequence[tuple[bytes, bytes]]
    ) -> None:
        """Check a request's head. Raises HandshakeRefused."""
        self._handshake = H11Handshake(ConnectionType.SERVER)
        _check(http_version, headers)
        head = [method, b" ", target, b" HTTP/1.1\r\n"]
        for name, value in headers:
            head += [name, b": ", value, b"\r\n"]
        head.append(b"\r\n")
        try:
            self._handshake.receive_data(b"".join(head))
            requests = [event for event in self._handshake.events() if isinstance(event, Request)]
        except RemoteProtocolError as problem:
            raise _refusal(problem) from None
        except (ProtocolError, ValueError):
            raise _bad("malformed header") from None
        if not requests:
            raise _bad("not a handshake")
        self._request = requests[0]

    @property
    def subprotocols(self) -> Sequence[str]:
        """What the client offered."""
        return self._request.subprotocols

    def accept(
        self, headers: Iterable[tuple[str, str]], message_limit: int, *, compression: bool
    ) -> tuple[bytes, list[Extension]]:
        """Return the 101 and the extensions that were agreed on.

        `headers` are the handler's, cleaned. Its Sec-WebSocket-Protocol goes out if the client offered it.
        """
        extras = list(headers)
        chosen = next((value for name, value in extras if name == "sec-websocket-protocol"), None)
        offered = self._request.subprotocols
        supported: list[Extension] = [BoundedDeflate(message_limit)] if compression else []
        data = self._handshake.send(
            AcceptConnection(
                subprotocol=chosen if chosen in offered else None,
                extensions=supported,
                extra_headers=[
                    (name.encode("ascii"), value.encode("latin-1"))
                    for name, value in extras
                    if name not in _REFUSED_IN_101
                ],
            )
        )
        return bytes(data), [extension for extension in supported if extension.enabled()]

    def reject(self, answer: Answer) -> bytes:
        """Return the response that refuses the upgrade; the connection is to be closed after it."""
        return encode_rejection(answer, self._handshake)


def encode_rejection(answer: Answer, handshake: H11Handshake | None = None) -> bytes:
    """Return a whole HTTP response that ends the connection."""
    if handshake is None:
        handshake = H11Handshake(ConnectionType.SERVER)
    headers = [*framing_headers(answer), (b"connection", b"close")]
    data = handshake.send(RejectConnection(status_code=answer.status, headers=headers, has_body=True))
    return bytes(data + handshake.send(RejectData(data=answer.body, body_finished=True)))


def _check(http_version: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    if http_version != b"1.1":
        raise _bad("WebSocket needs HTTP/1.1")
    if any(name in _BODY and value.strip() != b"0" for name, value in headers):
        raise _bad("a handshake has no body")
    keys = [value for name, value in headers if name == b"sec-websocket-key"]
    try:
        nonce = binascii.a2b_base64(keys[0], strict_mode=True) if len(keys) == 1 else b""
    except binascii.Error:
        nonce = b""
    if len(nonce) != 16:
        raise _bad("Sec-WebSocket-Key must be 16 bytes in base64")


def _bad(message: str) -> HandshakeRefused:
    return HandshakeRefused(message, plain_answer(400, f"Bad WebSocket handshake: {message}"))


def _refusal(problem: RemoteProtocolError) -> HandshakeRefused:
    hint = problem.event_hint
    if isinstance(hint, RejectConnection) and hint.status_code == 426:
        headers = (("sec-websocket-version", "13"), ("upgrade", "websocket"))
        return HandshakeRefused(str(problem), plain_answer(426, "Unsupported WebSocket version", headers))
    return _bad(str(problem))
