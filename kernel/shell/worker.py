"""The supervisor's handle on one worker: its control channel and its OS process.

Until the worker is born the channel only collects what it will read first. A worker that is upgraded has a handle for its old
code and one for its new code, which is the `successor` of the first.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from ..core.backlog import Backlog
from ..wire.channel import Channel
from ..wire.codec import encode
from ..wire.mail import MailDecoder
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
        host: str,
        mailbox: int,
        end: socket.socket,
        on_readable: Callable[[WorkerHandle], None],
        on_drained: Callable[[int], None],
        on_relieved: Callable[[int], None],
        on_broken: Callable[[WorkerHandle], None],
        on_death: Callable[[WorkerHandle], None],
    ) -> None:
        """`host` forks it; `end` is our end of its control channel; `mailbox` the bound of its unread mail, in bytes."""
        self.number = number
        self.host = host
        self.mailbox = mailbox
        self.child: Child | None = None
        self.channel = Channel(end, WORKER_TO_SUPERVISOR, decoder=MailDecoder)
        self.attachment = Attachment(
            loop,
            turn,
            self.channel,
            lambda: on_readable(self),
            on_drained=lambda: on_drained(number),
            on_relieved=lambda: on_relieved(number),
            on_broken=lambda: on_broken(self),
            held=True,
        )
        self._loop = loop
        self._on_death = on_death
        self._backlog = Backlog()
        self.successor: WorkerHandle | None = None
        """Of the code that it is upgraded to (S35): what is sent to the worker waits there."""
        self.unborn_end: socket.socket | None = None
        """The worker's end of the control channel, until its host can be asked to fork it."""

    @property
    def receiving(self) -> WorkerHandle:
        """The handle that gets what is sent to the worker now."""
        return self.successor or self

    @property
    def is_dead(self) -> bool:
        """Whether its OS process has ended."""
        return self.child is not None and self.child.status() is not None

    def born(self, child: Child) -> None:
        """It has an OS process: watch it and let it read. Its pidfd comes first, so that no death goes unseen."""
        self.child = child
        self._loop.add_reader(child.pidfd, self._on_death, self)
        self.attachment.release()

    def send(self, record: tuple[Any, ...]) -> None:
        """Queue a record for the end of the turn. It does not count as mail (S10)."""
        self.send_frame(encode(record), bounded=False)

    def send_frame(self, frame: bytes, *, bounded: bool, count: int = 1) -> None:
        """Queue the frame of a record that carries no descriptor, or those of `count` such records. What is not `bounded` does not
        count as mail (S10)."""
        channel = self.channel
        before = channel.pending
        self._backlog.settle(before)
        self.attachment.send_frame(frame, count=count)
        self._backlog.queue(channel.pending - before, mail=bounded)

    def close(self) -> None:
        """Forget what is unsent, and close its channel."""
        self.attachment.close()
        if self.unborn_end is not None:
            self.unborn_end.close()

    @property
    def overflown(self) -> bool:
        """Whether the mail that waits to be written is over its bound. True after `send_frame`."""
        return self._backlog.mail > self.mailbox
