"""permessage-deflate (RFC 7692) that inflates no more than a message may have.

Owns the decompression of incoming messages. wsproto's own extension inflates without a bound, and forgets that a fragmented
message is compressed when a control frame comes between its fragments; everything else is inherited from it.
"""

from __future__ import annotations

import zlib

from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

_TAIL = b"\x00\x00\xff\xff"
_NOBODY = FrameDecoder(client=False)
"""Stands for the connection that the calls of an extension name: all they ask is whether it is a client's."""
_NO_BITS = RsvBits(False, False, False)


class BoundedDeflate(PerMessageDeflate):
    """One connection's compression."""

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes, for an inflated message; over it the connection fails with 1009."""
        super().__init__()
        self._limit = limit
        self._left = limit
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
            self._left = self._limit
            if rsv.rsv1 and self._decompressor is None:
                self._decompressor = zlib.decompressobj(-int(self.client_max_window_bits))
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
        rest = self._inflate(_TAIL)
        self._message_compressed = None
        if self.client_no_context_takeover:
            self._decompressor = None
        return rest

    def inflate_message(self, payload: bytes) -> bytes | CloseReason:
        """Inflate a message of one frame: what the three calls of wsproto for its header, payload and end come to."""
        self._data_frame = self._message_compressed = True
        self._left = self._limit
        if self._decompressor is None:
            self._decompressor = zlib.decompressobj(-int(self.client_max_window_bits))
        inflated = self._inflate(payload)
        if not isinstance(inflated, bytes):
            return inflated
        rest = self.frame_inbound_complete(_NOBODY, True)
        return inflated + rest if isinstance(rest, bytes) else rest or inflated

    def deflate_message(self, payload: bytes) -> bytes:
        """Compress a message of one frame."""
        return self.frame_outbound(_NOBODY, Opcode.BINARY, _NO_BITS, payload, True)[1]

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        decompressor = self._decompressor
        if decompressor is None:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        try:
            inflated = decompressor.decompress(data, self._left + 1)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._left -= len(inflated)
        if self._left < 0 or decompressor.unconsumed_tail:
            return CloseReason.MESSAGE_TOO_BIG
        if decompressor.eof:  # a final block: the next message starts afresh (RFC 7692 §7.2.3.5)
            self._decompressor = zlib.decompressobj(-int(self.client_max_window_bits))
        return inflated
