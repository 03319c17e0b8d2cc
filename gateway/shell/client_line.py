"""The way out to one client: what is collected in a turn, written at its end, and how much may wait for a client (S54).

Owns the transport and the bytes that go to it. Decides nothing: a client over its bound is told to the session, which is its
owner's (`connection`).
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Final

from ..core import session_events as e
from ..core.frames import MessageWriter, message_head
from ..core.session import Phase, Session
from .service import Service
from .stalls import StallWatch
from .turn import Turn

_OPEN: Final = Phase.OPEN  # an enumeration's members are slow to look up
_HELD: Final = Phase.HELD
_EARLY_FLUSH: Final = 64 << 10
"""Bytes collected for a client that are written before the turn ends."""


class ClientLine(asyncio.Protocol):
    """One client's transport, for writing."""

    def __init__(
        self,
        turn: Turn,
        stalls: StallWatch,
        service: Service,
        transport: asyncio.Transport,
        session: Session,
        writer: MessageWriter,
    ) -> None:
        self.session = session
        self.sent = 0
        """Messages to the client."""
        self._service = service
        self._transport = transport
        self._gone = False
        """Whether the line has ended."""
        self._turn = turn
        self._stalls = stalls
        self._writer = writer
        self._out: list[bytes] = []
        self._out_size = 0
        self._queued = 0
        self._marked = False

    @abstractmethod
    def handle(self, event: e.Event) -> None:
        """Let the session decide, and do what it says."""

    @property
    def compresses(self) -> bool:
        """Whether messages must be encoded for this client alone."""
        return self._writer.compresses

    def send_message(self, opcode: int, payload: bytes) -> None:
        """Send a message, TEXT or BINARY. Nothing goes out once the connection closes."""
        phase = self.session.phase
        if phase is _OPEN or phase is _HELD:  # as `Session.is_open` says, without a call
            self.sent += 1
            writer = self._writer
            self._write(
                writer.encode(opcode, payload) if writer.compresses else message_head(opcode, len(payload)) + payload
            )

    def send_frame(self, frame: bytes) -> None:
        """Send an encoded message, the same for several clients."""
        if self.session.is_open:
            self.sent += 1
            self._write(frame)

    def _write(self, data: bytes) -> None:
        self._out.append(data)
        self._out_size += len(data)
        if self._out_size > _EARLY_FLUSH:
            self._flush()
        elif not self._marked:
            self._marked = True
            self._turn.mark(self)

    def flush_turn(self) -> None:
        """Write what this turn has collected."""
        self._marked = False
        self._flush()

    def _flush(self) -> None:
        out, transport = self._out, self._transport
        if not out:
            return
        size, self._out, self._out_size = self._out_size, [], 0
        if self._gone or transport.is_closing():
            return
        transport.write(b"".join(out) if len(out) > 1 else out[0])
        self._queued += size
        waiting = transport.get_write_buffer_size()
        if waiting:
            self._stalls.watch(self)
            # One message may be larger than the limit, if it waits alone.
            if waiting > max(self._service.limits.outbound, *map(len, out)):
                self.handle(e.ClientTooSlow())

    @property
    def write_timeout(self) -> float:
        """Seconds without progress that make a client slow (S54)."""
        return self._service.timeouts.write

    def bytes_waiting(self) -> int:
        """Bytes not yet taken by the operating system."""
        return 0 if self._gone else self._transport.get_write_buffer_size()

    def bytes_queued(self) -> int:
        """Bytes handed to the transport so far."""
        return self._queued

    def handle_stall(self) -> None:
        """The client took nothing for `write_timeout`."""
        self.handle(e.ClientTooSlow())
