"""permessage-deflate (RFC 7692) that inflates no more than a message may have.

Owns the decompression of incoming messages. wsproto's own extension inflates without a bound, forgets that a fragmented
message is compressed when a control frame comes between its fragments, and drops what comes after a final block; everything else
is inherited from it.
"""

from __future__ import annotations

import zlib

from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

_TAIL = b"\x00\x00\xff\xff"
_NOBODY = FrameDecoder(client=False)
"""Stands for the connection that the calls of an extension name: all they ask is whether it is a client's."""
_NO_BITS = RsvBits(False, False, False)
_FIRST_PIECE = 1 << 10
"""Bytes that a stream is given at first which follows another in the same piece: what it does not take is copied."""
_FREE_STREAMS = 64
_BYTES_A_STREAM = 256
"""A message may have 64 final blocks, and one more for each 256 bytes of its limit: one of nothing is two bytes, and the stream
behind it takes a microsecond to set up."""


class BoundedDeflate(PerMessageDeflate):
    """One connection's compression."""

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes, for an inflated message; over it the connection fails with 1009."""
        super().__init__()
        self._limit = limit
        self.spent = 0
        """What inflating has cost so far: the bytes that came out, and 256 for each final block."""
        self._left = limit
        self._streams_left = 0
        """How many more final blocks this message may have."""
        self._at_end = False
        """Whether the last that was inflated is a final block, and nothing has come since."""
        self._data_frame = False
        self._message_compressed: bool | None = None

    def accept(self, offer: str) -> bool | str | None:
        """Answer a client's offer. A malformed offer is declined, not an error (RFC 7692 §5)."""
        try:
            return super().accept(offer)
        except ValueError:
            return None

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """Note whether a message is compressed: its first frame says so for all of them (RFC 7692 §6)."""
        self._data_frame = not opcode.iscontrol()
        if rsv.rsv1 and (opcode.iscontrol() or opcode is Opcode.CONTINUATION):
            return CloseReason.PROTOCOL_ERROR
        if self._data_frame and opcode is not Opcode.CONTINUATION:
            self._message_compressed = rsv.rsv1
            if rsv.rsv1:
                self._begin_message()
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """Inflate a part of a frame."""
        if not self._data_frame or not self._message_compressed:
            return data
        return self._inflate(data)

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        """Inflate the end of a message (RFC 7692 §7.2.2)."""
        if not fin or not self._data_frame or not self._message_compressed:
            return None
        # A final block at the end needs no tail, and what comes of it after one is no part of the next message.
        rest = b"" if self._at_end else self._inflate_stream(_TAIL)
        self._message_compressed = None
        if self.client_no_context_takeover:
            self._decompressor = None
        return rest

    def inflate_message(self, payload: bytes) -> bytes | CloseReason:
        """Inflate a message of one frame: what the three calls of wsproto for its header, payload and end come to."""
        self._data_frame = self._message_compressed = True
        self._begin_message()
        inflated = self._inflate(payload)
        if not isinstance(inflated, bytes):
            return inflated
        rest = self.frame_inbound_complete(_NOBODY, True)
        return inflated + rest if isinstance(rest, bytes) else rest or inflated

    def deflate_message(self, payload: bytes) -> bytes:
        """Compress a message of one frame."""
        return self.frame_outbound(_NOBODY, Opcode.BINARY, _NO_BITS, payload, True)[1]

    def _begin_message(self) -> None:
        self._left = self._limit
        self._streams_left = _FREE_STREAMS + self._limit // _BYTES_A_STREAM
        self._at_end = False
        if self._decompressor is None:
            self._decompressor = self._new_decompressor()

    def _new_decompressor(self) -> zlib._Decompress:
        return zlib.decompressobj(-int(self.client_max_window_bits))

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        """Inflate a piece of a message: what follows a final block is another stream (RFC 7692 §7.2.3.4)."""
        if not data:
            return b""
        stream = self._decompressor
        inflated = self._inflate_stream(data)
        if not self._at_end or stream is None or not isinstance(inflated, bytes) or not stream.unused_data:
            return inflated
        parts, rest, position, size = [inflated], memoryview(stream.unused_data), 0, _FIRST_PIECE
        while position < len(rest):
            stream, piece = self._decompressor, rest[position : position + size]
            inflated = self._inflate_stream(piece)
            if not isinstance(inflated, bytes):
                return inflated
            parts.append(inflated)
            position += len(piece)
            size *= 2
            if self._at_end and stream is not None:
                position -= len(stream.unused_data)
                size = _FIRST_PIECE
        return b"".join(parts)

    def _inflate_stream(self, data: bytes | memoryview) -> bytes | CloseReason:
        """Inflate up to a final block at most, and begin a stream there."""
        decompressor = self._decompressor
        if decompressor is None:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        try:
            inflated = decompressor.decompress(data, self._left + 1)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._left -= len(inflated)
        self.spent += len(inflated)
        self._at_end = decompressor.eof
        if self._left < 0 or decompressor.unconsumed_tail:
            return CloseReason.MESSAGE_TOO_BIG
        if decompressor.eof:
            self._streams_left -= 1
            self.spent += _BYTES_A_STREAM
            if self._streams_left < 0:
                return CloseReason.MESSAGE_TOO_BIG
            self._decompressor = self._new_decompressor()
        return inflated
