"""What a connection sends compressed and must get back, and one connection that does so."""

from __future__ import annotations

import json
import random
import socket
import zlib
from dataclasses import dataclass

from .frames import COMPRESSED, TEXT, client_frame

DISTINCT = 64
"""Different messages; they are sent round and round."""
RECEIVE = 256 << 10
DEFLATE = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
"""What is offered: without takeover every message is compressed alone, so that frames can be made beforehand."""
_TAIL = b"\x00\x00\xff\xff"


def json_payloads(size: int) -> list[bytes]:
    """`DISTINCT` JSON texts of `size` bytes, of the kind that applications send: records with the same keys."""
    chance = random.Random(size)
    made = []
    for number in range(DISTINCT):
        records: list[dict[str, object]] = []
        while len(text := json.dumps({"event": "update", "number": number, "items": records})) < size:
            name = chance.choice(["alpha", "beta", "gamma", "delta"])
            records.append({"id": chance.randrange(1_000_000), "name": name, "price": chance.randrange(10_000) / 100})
        made.append(text[:size].encode())
    return made


@dataclass(frozen=True)
class Script:
    """Messages of JSON, their frames, and no more: what comes back has no fixed length."""

    payloads: list[bytes]
    frames: list[bytes]

    @classmethod
    def make(cls, size: int) -> Script:
        """Messages of `size` bytes before compression."""
        payloads = json_payloads(size)
        frames = []
        for number, payload in enumerate(payloads):
            squeezer = zlib.compressobj(wbits=-15)
            data = squeezer.compress(payload) + squeezer.flush(zlib.Z_SYNC_FLUSH)
            frames.append(client_frame(TEXT | COMPRESSED, data.removesuffix(_TAIL), number.to_bytes(4, "little")))
        return cls(payloads, frames)


class Client:
    """One connection that sends compressed frames and inflates what comes back before it compares."""

    def __init__(self, connection: socket.socket, script: Script, head: bytes) -> None:
        self.connection = connection
        self.sent = self.echoed = 0
        self.unsent = b""
        self.sent_at = 0.0
        self.latencies: list[float] = []
        self._messages = script
        accepted = head.lower()
        if b"permessage-deflate" not in accepted:
            raise ConnectionError("the server does not compress")
        self._keeps_context = b"server_no_context_takeover" not in accepted
        self._inflate = zlib.decompressobj(wbits=-15)
        self._buffer = bytearray()

    def send(self, count: int) -> bool:
        """Send the next `count` messages; returns whether all is written."""
        frames = [self._messages.frames[(self.sent + number) % DISTINCT] for number in range(count)]
        self.sent += count
        return self.write(self.unsent + b"".join(frames))

    def write(self, data: bytes) -> bool:
        """Write what can be written now and keep the rest."""
        try:
            written = self.connection.send(data)
        except BlockingIOError:
            written = 0
        self.unsent = data[written:]
        return not self.unsent

    def receive(self) -> int:
        """Read once, check every message that is complete, and return how many are."""
        data = self.connection.recv(RECEIVE)
        if not data:
            raise ConnectionError("the server closed a connection")
        self._buffer += data
        count = 0
        while (payload := self._take()) is not None:
            if not self._keeps_context:
                self._inflate = zlib.decompressobj(wbits=-15)
            if self._inflate.decompress(payload + _TAIL) != self._messages.payloads[self.echoed % DISTINCT]:
                raise ValueError(f"a wrong echo after {self.echoed} messages")
            self.echoed += 1
            count += 1
        return count

    def _take(self) -> bytes | None:
        """The payload of the next frame, if it is here whole."""
        frame = take_frame(self._buffer)
        if frame is None:
            return None
        first, payload = frame
        if first != 0x80 | COMPRESSED | TEXT:
            raise ValueError(f"expected a compressed text frame, got one that begins with {first:#x}")
        return payload


def take_frame(buffer: bytearray) -> tuple[int, bytes] | None:
    """Take a frame that is here whole off the buffer: its first byte and its payload."""
    if len(buffer) < 2:
        return None
    start, length = 2, buffer[1]
    if length >= 126:
        start = 4 if length == 126 else 10
        length = int.from_bytes(buffer[2:start], "big")
    if len(buffer) < start or len(buffer) < start + length:
        return None
    first, payload = buffer[0], bytes(buffer[start : start + length])
    del buffer[: start + length]
    return first, payload
