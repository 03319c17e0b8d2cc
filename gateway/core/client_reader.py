"""A client's bytes, as fast as they can be read: what stands before wsproto (RFC 6455 §5).

Owns the decoding of frames that are a whole message, with or without compression, and of whole pings, pongs and ordinary Close
frames. Any other frame, and every frame that is wrong, goes through a `MessageReader`, the slow twin: byte for byte what it would have been
given, so that both decide the same. No byte stream, however split, tells a `ClientReader` from a `MessageReader` alone.

Three states, told apart by what is left of the current frame:

- At a frame's first byte: `_data[_position:]` starts with a header.
- In a plain frame that has not come whole: `_part` has what came of its payload, unmasked, and its text checked so far, because
  bad UTF-8 fails at the byte that is wrong and not at the end.
- In a frame of the twin's: `_twins` bytes of it are still to come.

A header that is cut is kept while nothing in it is wrong. If it is wrong, the twin gets everything from there on.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Final, TypeAlias

from wsproto.extensions import Extension

from ...kernel.wire.client_frames import BINARY, TEXT
from .deflate import BoundedDeflate
from .frames import (
    CloseFrame,
    Failure,
    FragmentReceived,
    FrameEvent,
    MessageReader,
    PingReceived,
    PongReceived,
    failure,
)
from .masking import unmask

WholeMessage: TypeAlias = tuple[int, bytes]
"""The opcode, TEXT or BINARY, and the payload. That of a TEXT is valid UTF-8."""

_TEXT_FRAME: Final = 0x80 | TEXT
_BINARY_FRAME: Final = 0x80 | BINARY
_COMPRESSED: Final = 0x40
_CLOSE_FRAME: Final = 0x88
_PING_FRAME: Final = 0x89
_PONG_FRAME: Final = 0x8A
_USUAL_CODES: Final = (1000, 1001)
_MASKED: Final = 0x80
_INVALID_DATA: Final = 1007
_FOR_EVER: Final = 1 << 62
_VIEWED: Final = 4 << 10
"""Bytes of a payload from which on a copy of it takes longer than a view."""
_WRONG: Final = -1
_FRAGMENT: Final = FragmentReceived()


class ClientReader:
    """The incoming half of one open connection."""

    __slots__ = (
        "_checked",
        "_data",
        "_deflate",
        "_extensions",
        "_failure",
        "_fragmented",
        "_limit",
        "_mask",
        "_opcode",
        "_part",
        "_position",
        "_size",
        "_twin",
        "_twins",
        "drained",
        "finished",
        "inflates",
    )

    def __init__(self, limit: int, extensions: list[Extension]) -> None:
        """`limit` is in bytes, for one message."""
        self._limit = limit
        self._extensions = extensions
        self._deflate = next((one for one in extensions if isinstance(one, BoundedDeflate)), None)
        self.inflates = self._deflate is not None
        """Whether messages may be compressed. Otherwise nothing is ever `spent`."""
        self._data = b""
        self._position = 0
        self._part: bytearray | None = None
        self._opcode = self._size = self._checked = 0
        self._mask = b""
        self._twin: MessageReader | None = None
        self._twins = 0
        self._fragmented = False
        self._failure: Failure | None = None
        self.finished = False
        """Nothing more can be decoded: after a Close frame or a failure."""
        self.drained = True
        """`take_messages` has come to the end of what was received: there is no other event."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the client. They are decoded only as far as the other methods are called."""
        if self.finished:
            return
        rest = len(self._data) - self._position
        # The rest is a cut header, unless the owner has not decoded as far as it could.
        self._data = self._data[-rest:] + data if rest else data
        self._position = 0
        self.drained = False

    @property
    def spent(self) -> int:
        """What inflating this client's messages has cost so far, in bytes that came out (see `BoundedDeflate.spent`)."""
        return 0 if self._deflate is None else self._deflate.spent

    @property
    def has_unread(self) -> bool:
        """Whether bytes are kept that `take_messages` or `next_event` have not looked at, or of which a header is cut."""
        return not self.finished and (self._failure is not None or self._position < len(self._data))

    # --- whole messages -----------------------------------------------------------------------------------------------

    def take_messages(self, most: int, room: int) -> Sequence[WholeMessage]:
        """Decode whole messages, up to `most` of them; none where something else comes first: see `next_event`.

        `room` is in bytes, more than 0, of what is `spent`. With compressed messages it ends at the one that reaches it: what
        follows stays as small as it came."""
        # Messages are what happens most: one loop, and no call but those that look at every byte.
        messages: list[WholeMessage] = []
        if self._twins or self._fragmented or self.finished or self._failure is not None:
            return messages
        if self._part is not None and not self._continue_part(messages):
            return messages
        data, position = self._data, self._position
        end, limit, deflate = len(data), self._limit, self._deflate
        while len(messages) < most:
            start = position + 6
            if start > end:
                break
            first = data[position]
            if first != _TEXT_FRAME and first != _BINARY_FRAME and (deflate is None or not _is_compressed(first)):
                break
            size = data[position + 1] - _MASKED
            if size == 126:
                start += 2
                size = int.from_bytes(data[position + 2 : position + 4], "big")
                if size < 126:
                    break
            elif size == 127:
                start += 8
                size = int.from_bytes(data[position + 2 : position + 10], "big")
                if size < 1 << 16:
                    break
            stop = start + size
            if stop > end or size > limit or size < 0:
                break
            masked = data[start:stop] if size < _VIEWED else memoryview(data)[start:stop]
            payload = unmask(masked, data[start - 4 : start])
            if deflate is not None and first & _COMPRESSED:
                before = deflate.spent
                inflated = deflate.inflate_message(payload)
                if not isinstance(inflated, bytes):
                    self._failure = failure(int(inflated))
                    position = stop
                    break
                payload = inflated
                room -= deflate.spent - before
                if room <= 0:
                    most = 0
            opcode = first & 0xF
            if opcode == TEXT and not payload.isascii() and not _is_text(payload):
                self._failure = failure(_INVALID_DATA)
                position = stop
                break
            messages.append((opcode, payload))
            position = stop
        if position == end:
            self._data, position = b"", 0
            self.drained = self._failure is None
        self._position = position
        return messages

    def _begin_part(self, header: int, size: int) -> None:
        """The header of a plain frame is there and not all of its payload."""
        data, start = self._data, self._position + header
        self._opcode = data[self._position] & 0xF
        self._mask = data[start - 4 : start]
        self._size = size
        self._part = bytearray()
        self._checked = 0
        self._position = start

    def _continue_part(self, messages: list[WholeMessage]) -> bool:
        """Take what has come of the current plain frame. Returns whether it is complete, and then is in `messages`."""
        part = self._part
        if part is None:
            return True
        turn = len(part) % 4
        piece = self._data[self._position : self._position + self._size - len(part)]
        self._position += len(piece)
        if piece:
            part += unmask(piece, self._mask[turn:] + self._mask[:turn])
        complete = len(part) == self._size
        if self._opcode == TEXT:
            try:
                with memoryview(part) as view, view[self._checked :] as new:
                    self._checked += codecs.utf_8_decode(new, "strict", complete)[1]
            except UnicodeDecodeError:
                self._failure = failure(_INVALID_DATA)
                self._part = None
                return False
        if complete:
            messages.append((self._opcode, bytes(part)))
            self._part = None
        return complete

    # --- everything else ----------------------------------------------------------------------------------------------

    def next_event(self) -> FrameEvent | FragmentReceived | None:
        """Decode the next frame, if it is no whole message; None when more bytes are needed, or where a whole message comes
        first.

        One call takes no more than one frame, whatever the client has sent, so that its owner can count them."""
        if self.finished:
            return None
        if self._failure is not None:
            self.finished = True
            return self._failure
        if self._twins:
            return self._feed_twin()
        if self._part is not None or self._position == len(self._data):
            self._data, self._position = b"", 0
            return None
        header, size = self._header()
        if header == _WRONG:
            self._twins = _FOR_EVER
            return self._feed_twin()
        if header == 0:
            return None
        first = self._data[self._position]
        whole = self._position + header + size <= len(self._data)
        if first in (_PING_FRAME, _PONG_FRAME):
            return self._take_control(first, header, size) if whole else None
        if first == _CLOSE_FRAME and whole and (close := self._take_close(header, size)) is not None:
            return close
        if self._is_plain(first, size):
            return None if whole else self._take_part(header, size)
        if _is_compressed(first) and whole and size <= self._limit and not self._fragmented:
            return None
        if first & 0x8 == 0:
            self._fragmented = first & 0x80 == 0
        self._twins = header + size
        return self._feed_twin()

    def _take_part(self, header: int, size: int) -> Failure | None:
        """Take what is there of a plain frame that has not come whole."""
        self._begin_part(header, size)
        self._continue_part([])
        self._data, self._position = b"", 0
        self.finished = self._failure is not None
        return self._failure

    def _is_plain(self, first: int, size: int) -> bool:
        return first in (_TEXT_FRAME, _BINARY_FRAME) and size <= self._limit and not self._fragmented

    def _take_control(self, first: int, header: int, size: int) -> FrameEvent:
        start = self._position + header
        payload = unmask(self._data[start : start + size], self._data[start - 4 : start])
        self._position = start + size
        return PingReceived(payload) if first == _PING_FRAME else PongReceived()

    def _take_close(self, header: int, size: int) -> CloseFrame | None:
        """Take a Close frame that is nothing special; None for one that only the twin can judge (RFC 6455 §7.4)."""
        start = self._position + header
        payload = unmask(self._data[start : start + size], self._data[start - 4 : start])
        code, reason = None, ""
        if payload:
            code = int.from_bytes(payload[:2], "big")
            if size < 2 or not (code in _USUAL_CODES or 3000 <= code <= 4999):
                return None
            try:
                reason = payload[2:].decode()
            except UnicodeDecodeError:
                return None
        self.finished = True
        return CloseFrame(code, reason)

    def _feed_twin(self) -> FrameEvent | FragmentReceived | None:
        """Give the twin its frame, or what is there of it."""
        if self._position == len(self._data):
            self._data, self._position = b"", 0
            return None
        if self._twin is None:
            self._twin = MessageReader(self._limit, self._extensions)
        piece = self._data[self._position : self._position + self._twins]
        self._position += len(piece)
        self._twins -= len(piece)
        self._twin.receive(piece)
        event = self._twin.next_event()
        self.finished = self._twin.finished
        return _FRAGMENT if event is None else event

    def _header(self) -> tuple[int, int]:
        """Return the sizes of the header and of the payload that start here: (0, 0) if the header is not all there,
        (_WRONG, 0) if it is none that may be tracked."""
        data, position = self._data, self._position
        there = len(data) - position
        first = data[position]
        if there < 2:
            return 0, 0
        opcode, size = first & 0xF, data[position + 1] & 0x7F
        extended = (0, 2, 8)[max(0, size - 125)]
        if not data[position + 1] & _MASKED or opcode not in (0, 1, 2, 8, 9, 10):
            return _WRONG, 0
        if first & 0x70 and (self._deflate is None or first & 0x30 or opcode not in (TEXT, BINARY)):
            return _WRONG, 0
        if opcode & 0x8 and (extended or not first & 0x80):
            return _WRONG, 0
        if extended:
            if there < 2 + extended:
                return 0, 0
            size = int.from_bytes(data[position + 2 : position + 2 + extended], "big")
            if size < (126 if extended == 2 else 1 << 16) or size >> 63:
                return _WRONG, 0
        header = 6 + extended
        return (header, size) if there >= header else (0, 0)


def _is_compressed(first: int) -> bool:
    return first == _TEXT_FRAME | _COMPRESSED or first == _BINARY_FRAME | _COMPRESSED


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
