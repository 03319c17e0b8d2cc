"""Messages from worker to worker on their way through the supervisor, without the general codec: Send becomes Deliver.

Owns the bytes of both, which are those of `codec`, and nothing else. A Deliver ends with the topic and the payload of the Send, as
they were packed: so these are passed on as they came. Whatever is not exactly such a frame goes to the slow twin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import msgpack

from .codec import ScanningDecoder
from .messages import (
    MAX_FRAME,
    SUPERVISOR_TO_WORKER,
    WORKER_TO_SUPERVISOR,
    Deliver,
    Send,
    topic_is_reserved,
)

_SEND: Final = next(tag for tag, record in WORKER_TO_SUPERVISOR.items() if record is Send)
_DELIVER_HEAD: Final = bytes((0x94, next(tag for tag, record in SUPERVISOR_TO_WORKER.items() if record is Deliver)))
"""An array of four: the tag, then the sender."""
_SEND_HEAD: Final = bytes((0x94, _SEND, 0x91, 0xD9))
"""An array of four: the tag, an array of one PID, which is a string of 32 to 255 bytes."""
_HEAD_SIZE: Final = len(_SEND_HEAD) + 1 + 255 + 1 + 31 + 3
"""Bytes of the longest frame of ours, without its payload."""
_HEADS: Final = 64
"""Destinations with a topic that are remembered for a channel."""


class Mail(NamedTuple):
    """Send after Send from one worker to the same single destination: the rest of each, which is its topic and its payload,
    packed. A process may send on each of the topics (S9)."""

    destination: str
    rests: list[bytes]

    def deliver(self, sender: str) -> bytes:
        """The frames of as many Delivers."""
        packed: bytes = msgpack.packb(sender)
        head = _DELIVER_HEAD + packed
        return head + head.join(self.rests)

    def sends(self) -> Iterator[Send]:
        """The same, one by one."""
        for rest in self.rests:
            unpacker = msgpack.Unpacker(raw=False, max_buffer_size=0)
            unpacker.feed(rest)
            yield Send((self.destination,), unpacker.unpack(), unpacker.unpack())


class MailDecoder(ScanningDecoder):
    """A FrameDecoder that yields Mail for Sends to one process with a short topic and less than 64 KiB of payload.

    Its `limit` is at least 255.
    """

    _HEAD = _SEND_HEAD

    def __init__(self, accepts: Mapping[int, type], *, limit: int = MAX_FRAME, resumable: bool = False) -> None:
        """See `FrameDecoder`."""
        super().__init__(accepts, limit=limit, resumable=resumable)
        self._heads: dict[bytes, str] = {}
        """What frames of ours begin with, up to the payload, and the destination."""

    def _scan(self, data: bytes, position: int) -> tuple[list[Mail], int]:
        """See `ScanningDecoder`."""
        found: list[Mail] = []
        end, limit = len(data), self._limit
        while data.startswith(_SEND_HEAD, position) and position + 5 < end:
            topic = position + 5 + data[position + 4]
            start = topic + 1 + (data[topic] & 0x1F) if topic < end else end
            if start >= end:
                break
            head = data[position:start]
            destination = self._heads.get(head) or self._learn(head, topic - position)
            if not destination:
                break
            rests: list[bytes] = []
            to_topic, to_payload = topic - position, start - position
            while data.startswith(head, position):
                start = position + to_payload + 2
                if start > end:
                    break
                kind, size = data[start - 2], data[start - 1]
                if kind == 0xC5:
                    size = size << 8 | data[start] if start < end else end
                    start += 1
                elif kind != 0xC4:
                    break
                stop = start + size
                if stop > end or size > limit:
                    break
                rests.append(data[position + to_topic : stop])
                position = stop
            if not rests:
                break
            self.frames += len(rests)
            found.append(Mail(destination, rests))
        if position < end and self._is_unfinished(data, position):
            self._held, position = [data[position:]], end
        return found, position

    def _learn(self, head: bytes, topic: int) -> str:
        """Return the destination of frames with this head, where the topic starts at `topic`; empty if they are not ours."""
        if not 0xA0 <= head[topic] < 0xC0:
            return ""
        try:
            destination, name = head[5:topic].decode(), head[topic + 1 :].decode()
        except UnicodeDecodeError:
            return ""
        if topic_is_reserved(name):
            return ""
        if len(self._heads) >= _HEADS:
            self._heads.clear()
        self._heads[head] = destination
        return destination

    def _is_unfinished(self, data: bytes, position: int) -> bool:
        """Whether the rest of `data`, which is not empty, may be the beginning of a frame of ours and not the whole of it."""
        rest = data[position : position + _HEAD_SIZE]
        if not _SEND_HEAD.startswith(rest[: len(_SEND_HEAD)]):
            return False
        topic = 5 + rest[4] if len(rest) > 4 else len(rest)
        if topic >= len(rest):
            return True
        if not 0xA0 <= rest[topic] < 0xC0:
            return False
        kind = topic + 1 + (rest[topic] & 0x1F)
        if kind >= len(rest):
            return True
        start = kind + {0xC4: 2, 0xC5: 3}.get(rest[kind], 0)
        if start == kind or start > len(rest):
            return start > kind
        size = int.from_bytes(rest[kind + 1 : start], "big")
        return size <= self._limit and position + start + size > len(data)
