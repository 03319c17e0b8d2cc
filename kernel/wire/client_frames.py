"""The two records that are nearly all traffic of a data channel, without the general codec: ClientMessage and ClientSend.

Owns their bytes, which are those of `codec`, and nothing else: text stays the UTF-8 that it is on both lines, so it is checked
once and neither decoded nor encoded. Whatever is not exactly such a frame goes to the slow twin.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgpack

from .codec import MAX_INTEGER, ScanningDecoder
from .messages import GATEWAY_TO_WORKER, MAX_FRAME, WORKER_TO_GATEWAY, ClientMessage, ClientSend

TEXT: Final = 0x1
BINARY: Final = 0x2
"""The opcodes of RFC 6455 §5.2."""

PlainSend: TypeAlias = tuple[int, int, bytes]
"""A ClientSend to one connection: serial, TEXT or BINARY, payload. That of a TEXT is valid UTF-8. Its type is `tuple`, which
that of no record is."""

_SEND_HEAD: Final = bytes((0x93, next(tag for tag, record in WORKER_TO_GATEWAY.items() if record is ClientSend), 0x91))
"""An array of three: the tag, and an array of one serial."""
_MESSAGE_HEAD: Final = bytes((0x93, next(tag for tag, record in GATEWAY_TO_WORKER.items() if record is ClientMessage)))
"""An array of three: the tag, the serial."""

_new = tuple.__new__  # a named tuple's own takes twice the time
_INTEGERS: Final = {
    first: (struct.calcsize(kind), struct.Struct(kind).unpack_from)
    for first, kind in ((0xCC, ">B"), (0xCD, ">H"), (0xCE, ">I"), (0xCF, ">Q"))
}
"""By the first byte of an integer: how many bytes follow, and what reads them."""
_TEXT_HEADS: Final = tuple(bytes((0xA0 | size,) if size < 32 else (0xD9, size)) for size in range(1 << 8))
_BINARY_HEADS: Final = tuple(bytes((0xC4, size)) for size in range(1 << 8))
"""The heads of strings whose lengths have one byte at most, by length."""


# --- writing ----------------------------------------------------------------------------------------------------------


def message_prefix(serial: int) -> bytes:
    """What every ClientMessage of this connection begins with."""
    packed: bytes = msgpack.packb(serial)
    return _MESSAGE_HEAD + packed


def add_messages(pieces: list[bytes], prefix: bytes, messages: Sequence[tuple[int, bytes]]) -> int:
    """Add the pieces of ClientMessages to a list that is to be joined, and return their size in bytes.

    A message is its opcode and its payload, where that of TEXT is valid UTF-8.
    """
    added = 0
    for opcode, payload in messages:
        size = len(payload)
        if opcode == TEXT:
            head = _TEXT_HEADS[size] if size < 1 << 8 else _long_head(0xDA, size)
        else:
            head = _BINARY_HEADS[size] if size < 1 << 8 else _long_head(0xC5, size)
        pieces += (prefix, head, payload)
        added += size + len(head)
    return added + len(prefix) * len(messages)


def send_prefix(serial: int) -> bytes:
    """What every ClientSend to this connection alone begins with."""
    packed: bytes = msgpack.packb(serial)
    return _SEND_HEAD + packed


def encode_send(prefix: bytes, data: str | bytes) -> bytes:
    """Return the frame of a ClientSend to one connection, whose `send_prefix` is given. Raises UnicodeEncodeError for text that is
    no UTF-8."""
    if isinstance(data, bytes):
        size = len(data)
        return prefix + (_BINARY_HEADS[size] if size < 1 << 8 else _long_head(0xC5, size)) + data
    payload = str.encode(data)  # not that of a class of the user's
    size = len(payload)
    return prefix + (_TEXT_HEADS[size] if size < 1 << 8 else _long_head(0xDA, size)) + payload


def _long_head(first: int, size: int) -> bytes:
    """The head of a string that has lengths of two and four bytes from `first` on."""
    return struct.pack(">BH", first, size) if size < 1 << 16 else struct.pack(">BI", first + 1, size)


# --- reading ----------------------------------------------------------------------------------------------------------


class ClientFrameDecoder(ScanningDecoder):
    """A FrameDecoder that reads the frames of one record, which start with `_HEAD` and a serial, by itself."""

    _decodes: bool
    """Whether they become ClientMessages. Otherwise they become PlainSends."""

    def __init__(self, accepts: Mapping[int, type], *, limit: int = MAX_FRAME, resumable: bool = False) -> None:
        """See `FrameDecoder`."""
        super().__init__(accepts, limit=limit, resumable=resumable)
        self._wanted = 0
        """How many bytes of what is held are still to come."""

    def _complete(self, data: bytes) -> tuple[list[tuple[Any, ...]], bytes]:
        """See `ScanningDecoder`. A frame of many pieces is put together once."""
        wanted = self._wanted
        self._held.append(data[:wanted])
        if len(data) < wanted:
            self._wanted -= len(data)
            return [], b""
        frame, self._held = b"".join(self._held), []
        records, read = self._scan(frame, 0)
        return records, data[wanted:] if read else frame + data[wanted:]

    def _scan(self, data: bytes, position: int) -> tuple[list[tuple[Any, ...]], int]:
        """See `ScanningDecoder`."""
        records: list[tuple[Any, ...]] = []
        end, limit, decodes, head = len(data), self._limit, self._decodes, self._HEAD
        before = len(head)
        while position < end:
            start = position + before
            if data[position:start] != head:
                break
            start += 1
            if start >= end:
                break
            serial = data[start - 1]
            if serial >= 0x80:
                known = _INTEGERS.get(serial)
                if known is None:
                    break
                width, unpack = known
                if start + width >= end:
                    break
                (serial,) = unpack(data, start)
                start += width
                if serial > MAX_INTEGER:
                    break
            kind = data[start]
            start += 1
            if kind & 0xE0 == 0xA0:
                size, opcode = kind & 0x1F, TEXT
            elif kind == 0xD9 or kind == 0xC4:
                size = data[start] if start < end else 0
                start += 1
                opcode = TEXT if kind == 0xD9 else BINARY
            elif kind == 0xDA or kind == 0xC5:
                size = int.from_bytes(data[start : start + 2], "big")
                start += 2
                opcode = TEXT if kind == 0xDA else BINARY
            elif kind == 0xDB or kind == 0xC6:
                size = int.from_bytes(data[start : start + 4], "big")
                start += 4
                opcode = TEXT if kind == 0xDB else BINARY
            else:
                break
            stop = start + size
            if stop > end or size > limit:
                if start <= end and size <= limit:
                    self._held, self._wanted, position = [data[position:]], stop - end, end
                break
            payload = data[start:stop]
            if decodes:
                try:
                    records.append(_new(ClientMessage, (serial, payload.decode() if opcode == TEXT else payload)))
                except UnicodeDecodeError:
                    break
            else:
                if opcode == TEXT and not payload.isascii():
                    try:
                        payload.decode()
                    except UnicodeDecodeError:
                        break
                records.append((serial, opcode, payload))
            position = stop
        self.frames += len(records)
        return records, position


class SendDecoder(ClientFrameDecoder):
    """What a worker writes: a ClientSend to one connection is yielded as a PlainSend."""

    _HEAD = _SEND_HEAD
    _decodes = False


class MessageDecoder(ClientFrameDecoder):
    """What the gateway writes. A ClientMessage is yielded as one, as by the slow twin."""

    _HEAD = _MESSAGE_HEAD
    _decodes = True
