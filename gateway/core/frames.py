"""WebSocket frames: a client's bytes to whole messages, and messages to a server's frames.

Owns the limit on a message's size (S46, 1009) and the encoding of what goes out. wsproto decodes frame by frame; a
`ClientReader` stands before it and takes the frames that are a whole message. Knows nothing of sockets or sessions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from ...kernel.wire.client_frames import BINARY, TEXT
from .deflate import BoundedDeflate

NO_CODE: Final = 1005
"""What RFC 6455 §7.1.5 calls a Close frame without a code; never on the wire."""
_BAD_GATEWAY: Final = 1014
MAX_REASON: Final = 123
"""Bytes of a close reason (RFC 6455 §5.5)."""
_CLOSE: Final = 0x8
_PING: Final = 0x9
_PONG: Final = 0xA
_COMPRESSED: Final = 0x40

_HEADS: Final = {
    opcode: tuple(bytes((0x80 | opcode, size)) for size in range(126))
    for opcode in (TEXT, BINARY, TEXT | _COMPRESSED, BINARY | _COMPRESSED, _CLOSE, _PING, _PONG)
}
"""By opcode and size."""


@dataclass(frozen=True, slots=True)
class Message:
    """A client's complete message: `str` for text, `bytes` for binary."""

    data: str | bytes


@dataclass(frozen=True, slots=True)
class PingReceived:
    """A ping, to be answered with its payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class PongReceived:
    """A pong; any pong shows that the client lives."""


class CloseFrame(NamedTuple):
    """The client's Close frame. `code` is None if it had none."""

    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """The client broke the protocol; the connection is to be failed with this code."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class FragmentReceived:
    """A part of a message, or of a frame, that is not the last: there is nothing to do yet, but it has been paid for."""


FrameEvent: TypeAlias = Message | PingReceived | PongReceived | CloseFrame | Failure

_FAILURES: Final = {1002: "protocol error", 1007: "invalid data", 1009: "message too big"}


class _BadGateway(Extension):
    """Has wsproto accept a Close with 1014, which IANA's registry has and wsproto has not: it is shown another code instead."""

    name = "close code 1014"

    def __init__(self) -> None:
        self._closes = False
        self.received = False
        """Whether the Close frame had this code."""

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool | str:
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        self._closes = opcode is Opcode.CLOSE
        return RsvBits(False, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """The payload of a control frame comes whole."""
        if not self._closes or data[:2] != _BAD_GATEWAY.to_bytes(2, "big"):
            return data
        self.received = True
        return CloseReason.SERVICE_RESTART.to_bytes(2, "big") + data[2:]


class MessageReader:
    """The incoming half of one open connection."""

    def __init__(self, limit: int, extensions: list[Extension]) -> None:
        """`limit` is in bytes, for one message."""
        self._bad_gateway = _BadGateway()
        self._connection = Connection(ConnectionType.SERVER, [*extensions, self._bad_gateway])
        self._limit = limit
        self._collected = bytearray()
        """What has come of a fragmented message."""
        self._events: Iterator[object] | None = None
        self.finished = False
        """Nothing more can be decoded: after a Close frame or a failure."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the client. They are decoded by `next_event`, and only as far as that is called."""
        if not self.finished:
            self._connection.receive_data(data)
            self._events = None

    def next_event(self) -> FrameEvent | None:
        """Decode up to the next event; None when more bytes are needed."""
        while not self.finished:
            if self._events is None:
                self._events = iter(self._connection.events())
            event = next(self._events, None)
            if event is None:
                self._events = None
                return None
            decoded = self._handle(event)
            if decoded is not None:
                return decoded
        return None

    def _handle(self, event: object) -> FrameEvent | None:
        if isinstance(event, (TextMessage, BytesMessage)):
            return self._collect(event)
        if isinstance(event, Ping):
            return PingReceived(bytes(event.payload))
        if isinstance(event, Pong):
            return PongReceived()
        if isinstance(event, CloseConnection):
            self.finished = True
            # wsproto reports what it cannot parse as a Close of its own, and stays OPEN then.
            if self._connection.state.name == "OPEN":
                return self._fail(int(event.code))
            code = None if event.code == NO_CODE else _BAD_GATEWAY if self._bad_gateway.received else int(event.code)
            return CloseFrame(code, event.reason or "")
        return None

    def _fail(self, code: int) -> Failure:
        self._collected = bytearray()
        return failure(code)

    def _collect(self, event: TextMessage | BytesMessage) -> FrameEvent | None:
        data = event.data
        # Text is kept as UTF-8, for one growing buffer: parts that are kept apart take forty times as much, or are joined
        # time and again.
        payload = data.encode() if isinstance(data, str) else data
        if len(self._collected) + len(payload) > self._limit:
            self.finished = True
            return self._fail(CloseReason.MESSAGE_TOO_BIG)
        if event.message_finished and not self._collected:
            return Message(data if isinstance(data, str) else bytes(data))
        self._collected += payload
        if not event.message_finished:
            return None
        whole, self._collected = bytes(self._collected), bytearray()
        return Message(whole.decode() if isinstance(data, str) else whole)


def failure(code: int) -> Failure:
    """The failure with this code, and the reason that the client is given."""
    return Failure(code, _FAILURES.get(code, "protocol error"))


class MessageWriter:
    """The outgoing half. Without compression every server frame is the same for all clients: see `encode_message`."""

    __slots__ = ("_deflate", "compresses")

    def __init__(self, extensions: list[Extension]) -> None:
        self._deflate = next((one for one in extensions if isinstance(one, BoundedDeflate)), None)
        self.compresses = self._deflate is not None
        """Whether messages must be encoded for this connection alone."""

    def encode(self, opcode: int, payload: bytes) -> bytes:
        """Encode a message, TEXT or BINARY, for this connection."""
        if self._deflate is None:
            return message_head(opcode, len(payload)) + payload
        compressed = self._deflate.deflate_message(payload)
        return message_head(opcode | _COMPRESSED, len(compressed)) + compressed


def message_head(opcode: int, size: int) -> bytes:
    """The head of a server's frame that is a whole message with a payload of `size` bytes (RFC 6455 §5.2)."""
    if size < 126:
        return _HEADS[opcode][size]
    if size < 1 << 16:
        return struct.pack("!BBH", 0x80 | opcode, 126, size)
    return struct.pack("!BBQ", 0x80 | opcode, 127, size)


def encode_ping(payload: bytes) -> bytes:
    """Encode a ping of up to 125 bytes."""
    return _encode(_PING, payload)


def encode_pong(payload: bytes) -> bytes:
    """Encode a pong of up to 125 bytes."""
    return _encode(_PONG, payload)


def encode_close(code: int | None, reason: str = "") -> bytes:
    """Encode a Close frame; without a code the payload is empty. The reason is cut to fit (S50)."""
    return _encode(_CLOSE, b"" if code is None else struct.pack("!H", code) + cut_reason(reason).encode())


def cut_reason(reason: str) -> str:
    """Cut a close reason at 123 bytes, on a UTF-8 boundary (S50)."""
    return reason.encode()[:MAX_REASON].decode(errors="ignore")


def close_code_is_valid(code: int) -> bool:
    """Whether a process may close a connection with this code (S50)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def _encode(opcode: int, payload: bytes) -> bytes:
    return message_head(opcode, len(payload)) + payload
