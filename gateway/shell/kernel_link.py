"""The control channel to the supervisor.

Owns the channel and the requests that wait for an answer. Knows nothing of what the records mean: it hands them on in
order. Answers are handed to a callback at once, and not through a future, because the order of `Admitted` or `Granted` and
the notices that follow them is what makes them true.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Callable
from typing import Any, TypeAlias

from ...kernel.wire.channel import Channel
from ...kernel.wire.messages import SUPERVISOR_TO_GATEWAY, Admitted, Granted, Observed, Refused
from .turn import Turn

logger = logging.getLogger("wsrelay.gateway")

Answer: TypeAlias = Admitted | Granted | Refused | Observed


class KernelLink:
    """The gateway's end."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        turn: Turn,
        end: socket.socket,
        on_record: Callable[[tuple[Any, ...]], None],
        on_end: Callable[[str], None],
    ) -> None:
        """`on_end` is called with the reason when the supervisor is gone."""
        self._loop = loop
        self._turn = turn
        self._channel = Channel(end, SUPERVISOR_TO_GATEWAY, descriptors=True)
        self._on_record = on_record
        self._on_end = on_end
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Callable[[Any], None]] = {}
        self._marked = False
        self._writing = False
        loop.add_reader(self._channel.fileno(), self._readable)

    def send(self, record: tuple[Any, ...]) -> None:
        """Queue a record for the supervisor."""
        self._channel.send(record)
        if not self._marked:
            self._marked = True
            self._turn.mark(self)

    def request(self, build: Callable[[int], tuple[Any, ...]], callback: Callable[[Any], None]) -> int:
        """Send the record that `build` makes for a new request number; `callback` gets the answer. Returns the number."""
        number = next(self._numbers)
        self._waiting[number] = callback
        self.send(build(number))
        return number

    def forget(self, number: int) -> None:
        """Ignore the answer to a request."""
        self._waiting.pop(number, None)

    def take_descriptor(self) -> int:
        """Return the descriptor that came with the record being handled; the caller closes it."""
        return self._channel.take_descriptor()

    def _readable(self) -> None:
        for record in self._channel.receive():
            try:
                self._dispatch(record)
            except Exception:
                # What the supervisor believes is no longer true here; a new gateway starts from the truth (S41).
                logger.exception("a record of the supervisor could not be handled")
                self._on_end(f"{type(record).__name__} could not be handled")
        if self._channel.violation is not None:
            self._on_end(str(self._channel.violation))
        elif self._channel.ended:
            self._on_end("the supervisor is gone")

    def _dispatch(self, record: tuple[Any, ...]) -> None:
        if isinstance(record, (Admitted, Granted, Refused, Observed)):
            callback = self._waiting.pop(record.request, None)
            if callback is not None:
                callback(record)
        else:
            self._on_record(record)

    def flush_turn(self) -> None:
        """Write what was queued."""
        self._marked = False
        if self._writing:
            return
        if not self._channel.flush():
            self._writing = True
            self._loop.add_writer(self._channel.fileno(), self._writable)
        elif self._channel.broken:
            self._on_end("the supervisor does not read")

    def _writable(self) -> None:
        if self._channel.flush():
            self._writing = False
            self._loop.remove_writer(self._channel.fileno())
