"""Waiting for an async handler: the channels as readers and writers of its event loop.

Reads when the loop says so and wakes whoever waits for an item; each looks for itself what there is. Knows of the runtime only
what `Owner` names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, Protocol

from ...kernel.wire.errors import Timeout
from ..core.items import Item
from ..core.mailbox import Mailbox
from ..core.outgoing import Frames
from ..core.requests import Answer, value_of
from ..core.streams import Stream, Topic
from .channels import Duplex
from .writer import Outgoing

TERMINATE_PATIENCE = 1.0
"""Seconds that `terminate` waits for a blocked data channel before it goes through the supervisor (S30)."""


class Owner(Protocol):
    """What the port needs of the runtime."""

    control: Duplex
    data: Duplex | None
    mailbox: Mailbox
    watched: bool

    def come_back(self) -> None:
        """The handler receives: write what is collected."""

    def look(self) -> None:
        """Answer a question of the supervisor, if there is one (S17)."""

    def read_control(self) -> None:
        """Read once from the supervisor."""

    def read_data(self) -> None:
        """Read once from the gateway."""

    def post(self, frames: Frames, data: Duplex | None) -> Any:
        """Write frames."""

    def open_request(
        self,
        make: Callable[[int], tuple[Any, ...]],
        on_answer: Callable[[Answer], None],
        settle: Callable[[], None] | None,
    ) -> int:
        """Write a request."""


class Sent:
    """What `send` returns to an async handler. The message is on its way; awaiting waits until it has left (S7)."""

    __slots__ = ("_futures",)

    def __init__(self, futures: tuple[asyncio.Future[None], ...] = ()) -> None:
        self._futures = futures

    def __await__(self) -> Generator[Any, None, None]:
        for future in self._futures:
            yield from future


OUT = Sent()
"""Nothing is left to do."""


class AsyncPort:
    """The channels of one process on one event loop."""

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self._waiters: list[asyncio.Future[None]] = []
        self._unsent: dict[Duplex, list[tuple[Outgoing, asyncio.Future[None]]]] = {}
        self._watched: Duplex | None = None
        loop.add_reader(owner.control.fileno(), self._read, owner.read_control)
        self.update()

    # --- reading ------------------------------------------------------------------------------------------------------

    def _read(self, read: Callable[[], None]) -> None:
        try:
            read()
        finally:  # a signal handler may raise when all has been read
            self.update()
            self.wake()

    def wake(self) -> None:
        """Have whoever waits for an item look again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            _resolve(waiter)

    def update(self) -> None:
        """Watch the data channel, or do not, as the mailbox wants it (S10)."""
        data = self._owner.data
        wanted = data if data is not None and self._owner.mailbox.wants_data else None
        if wanted is self._watched:
            return
        if self._watched is not None:
            self._loop.remove_reader(self._watched.fileno())
        if wanted is not None:
            self._loop.add_reader(wanted.fileno(), self._read, self._owner.read_data)
        self._watched = wanted

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Have the loop call this before it sleeps, even if a signal handler asks while it does."""
        self._loop.call_soon_threadsafe(callback)

    def forget(self, channel: Duplex) -> None:
        """The channel is about to be closed: what is unsent on it is dropped."""
        if self._watched is channel:
            self._loop.remove_reader(channel.fileno())
            self._watched = None
        for _, future in self._unsent.pop(channel, ()):
            if not future.done():
                future.set_result(None)
        self._loop.remove_writer(channel.fileno())

    async def receive(self, stream: Stream | Topic, timeout: float | None) -> Item:
        """Wait for an item. Raises Timeout after `timeout` seconds."""
        owner = self._owner
        if owner.watched:  # the loop does not run while there is mail
            self._read(owner.look)
        item = owner.mailbox.take(stream)
        if item is None:
            item = await self._await_item(stream, timeout)
        self.update()
        return item

    async def _await_item(self, stream: Stream | Topic, timeout: float | None) -> Item:
        self._owner.come_back()
        deadline = None if timeout is None else self._loop.time() + timeout
        looked = False
        while (item := self._owner.mailbox.take(stream)) is None:
            if deadline is not None and self._loop.time() >= deadline and looked:
                raise Timeout(f"nothing came within {timeout:g} s")
            await self._wait_for_change(deadline)
            looked = True
        return item

    async def _wait_for_change(self, deadline: float | None) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        timer = None if deadline is None else self._loop.call_at(deadline, _resolve, waiter)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    # --- writing ------------------------------------------------------------------------------------------------------

    def sent(self, unsent: list[tuple[Duplex, Outgoing]]) -> Sent:
        """Have the loop write what is unsent; return what waits for it."""
        futures = tuple(
            self._watch(channel, outgoing) for channel, outgoing in unsent if not channel.writer.is_out(outgoing)
        )
        return Sent(futures) if futures else OUT

    def _watch(self, channel: Duplex, outgoing: Outgoing) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self._unsent.setdefault(channel, []).append((outgoing, future))
        self._loop.add_writer(channel.fileno(), self._writable, channel)
        return future

    def _writable(self, channel: Duplex) -> None:
        if channel.writer.flush():
            self._loop.remove_writer(channel.fileno())
        waiting = []
        for outgoing, future in self._unsent.pop(channel, ()):
            if not channel.writer.is_out(outgoing):
                waiting.append((outgoing, future))
            elif not future.done():
                future.set_result(None)
        if waiting:
            self._unsent[channel] = waiting

    def terminate(self, channel: Duplex, outgoing: Outgoing, otherwise: Frames) -> Sent:
        """A `terminate` whose data channel is blocked: write `otherwise` if it stays so."""

        def fall_back() -> None:
            if not channel.writer.is_out(outgoing):
                self._owner.post(otherwise, None)
            _resolve(decided)

        decided: asyncio.Future[None] = self._loop.create_future()
        self._watch(channel, outgoing).add_done_callback(lambda _: _resolve(decided))
        self._loop.call_later(TERMINATE_PATIENCE, fall_back)
        return Sent((decided,))

    async def request(
        self,
        make: Callable[[int], tuple[Any, ...]],
        finish: Callable[[int, Any], Any],
        settle: Callable[[], None] | None,
    ) -> Any:
        """Ask the supervisor; the answer's value, finished, or the error it raises."""
        answered: asyncio.Future[Answer] = self._loop.create_future()

        def on_answer(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        request = self._owner.open_request(make, on_answer, settle)
        return finish(request, value_of(await answered))


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
