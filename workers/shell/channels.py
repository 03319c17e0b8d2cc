"""A worker's two channels: *control* to the supervisor, which it is born with, and *data* to the gateway, which is replaced
with it.

Reading goes through the wire's `Channel`, writing through `Writer`, which bears signal handlers and threads.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from ...kernel.wire.channel import Channel
from ...kernel.wire.client_frames import MessageDecoder
from ...kernel.wire.codec import FrameDecoder
from ...kernel.wire.messages import GATEWAY_TO_WORKER, SUPERVISOR_TO_WORKER
from .writer import Writer

READ_SIZE = 64 << 10
"""Bytes asked for by one read: small enough for the allocator to keep the buffer at hand."""


class Duplex:
    """One channel, both ways."""

    def __init__(
        self,
        end: socket.socket,
        accepts: Mapping[int, type],
        *,
        descriptors: bool = False,
        resumable: bool = False,
        gateway: int = 0,
        decoder: type[FrameDecoder] = FrameDecoder,
    ) -> None:
        self.reader = Channel(end, accepts, descriptors=descriptors, resumable=resumable, decoder=decoder)
        self.writer = Writer(end)
        self.gateway = gateway
        """The incarnation of the gateway that it leads to; 0 for the control channel."""

    def fileno(self) -> int:
        """The socket's descriptor, -1 once closed."""
        return self.reader.fileno()

    @property
    def over(self) -> bool:
        """Nothing more will be read: the peer's end is closed, or it wrote garbage."""
        return self.reader.ended or self.reader.violation is not None

    def close(self) -> None:
        """Drop what is unsent, and close."""
        self.writer.abandon()
        self.reader.close()

    def close_in_fork(self) -> None:
        """Close this process's copy of the descriptor; the channel belongs to the parent (S11)."""
        self.writer.forget_in_fork()
        self.reader.close()


def control_channel(end: socket.socket) -> Duplex:
    """The channel to the supervisor."""
    return Duplex(end, SUPERVISOR_TO_WORKER, descriptors=True)


def data_channel(end: socket.socket, gateway: int) -> Duplex:
    """The channel to this incarnation of the gateway. An upgrade hands it on, wherever the reading stands (S35)."""
    return Duplex(end, GATEWAY_TO_WORKER, resumable=True, gateway=gateway, decoder=MessageDecoder)
