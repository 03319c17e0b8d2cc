"""The supervisor's handle on one worker: its control channel and its OS process.

Until the worker is born the channel only collects what it will read first.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from ..wire.channel import Channel
from ..wire.messages import WORKER_TO_SUPERVISOR
from .attachment import Attachment, Turn
from .children import Child


class WorkerHandle:
    """One worker, from the decision to start it to the end of its OS process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        turn: Turn,
        number: int,
        mailbox: int,
        end: socket.socket,
        on_readable: Callable[[WorkerHandle], None],
        on_drained: Callable[[int], None],
        on_death: Callable[[WorkerHandle], None],
    ) -> None:
        """`end` is our end of its control channel; `mailbox` the bound of its unread mail, in bytes."""
        self.number = number
        self.mailbox = mailbox
        self.child: Child | None = None
        self.channel = Channel(end, WORKER_TO_SUPERVISOR)
        self.attachment = Attachment(
            loop,
            turn,
            self.channel,
            lambda: on_readable(self),
            on_drained=lambda: on_drained(number),
            held=True,
        )
        self._loop = loop
        self._on_death = on_death
        self._doomed = False

    def born(self, child: Child) -> None:
        """It has an OS process: watch it and let it read. Its pidfd comes first, so that no death goes unseen."""
        self.child = child
        self._loop.add_reader(child.pidfd, self._on_death, self)
        self.attachment.release()
        if self._doomed:
            child.kill()

    def kill(self) -> None:
        """SIGKILL, now or at its birth."""
        self._doomed = True
        if self.child is not None:
            self.child.kill()
