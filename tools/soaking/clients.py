"""The clients of a random program: numbered ones, and the line on which the interpreter speaks with its conductor."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from wsrelay.tools.faults.journal import Book

PATIENCE: Final = 30.0
"""Seconds that anything of a client may take."""
CUT: Final = 1006


class Client:
    """A client that numbers what it sends, and notes in the journal what it sends and receives."""

    def __init__(self, book: Book, stream: str) -> None:
        self.stream = stream
        self.said = 0
        self._book = book
        self._line: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def open(self) -> bool:
        """Whether it is connected, as far as it knows."""
        return self._reading is not None and not self._reading.done()

    async def connect(self, url: str, target: str, beats: str = "") -> bool:
        """Connect to a target, which gets a heartbeat each time that `beats` is over. Returns whether it was let in: the target may be dead, or the gateway."""
        query = urlencode({"target": target, "stream": self.stream, "beats": beats})
        try:
            self._line = await connect(
                f"{url}?{query}", ping_interval=None, open_timeout=PATIENCE, close_timeout=PATIENCE
            )
        except (OSError, WebSocketException):
            return False
        self._book.client_opened(self.stream)
        self._reading = asyncio.create_task(self._read(self._line))
        return True

    async def _read(self, line: ClientConnection) -> None:
        try:
            async for text in line:
                if isinstance(text, str) and text[:1].isdigit():
                    number, sender = text.split(maxsplit=1)
                    self._book.client_received(self.stream, int(number), sender)
        except ConnectionClosed:
            pass
        await line.wait_closed()
        received = line.protocol.close_rcvd
        self._book.client_closed(self.stream, CUT if received is None else received.code)

    async def say(self, count: int) -> None:
        """Send so many items, as far as the line lasts."""
        if self._line is None:
            return
        for _ in range(count):
            if not self.open:
                return
            self.said += 1
            self._book.client_sent(self.stream, self.said)
            with contextlib.suppress(ConnectionClosed):
                await asyncio.wait_for(self._line.send(f"{self.stream} {self.said}"), PATIENCE)

    async def close(self) -> None:
        """Close, if it is open, and wait for the end."""
        if self._line is not None:
            await asyncio.wait_for(self._line.close(), PATIENCE)
        await self.ended()

    async def ended(self) -> None:
        """Wait for the end."""
        if self._reading is not None:
            await asyncio.wait_for(asyncio.shield(self._reading), PATIENCE)


class Line:
    """Orders to the conductor, and its answers. Connects again to the same conductor when the gateway was killed."""

    def __init__(self, url: str, born: Callable[[int, str], None]) -> None:
        self.conductor = ""
        self._url = url
        self._born = born
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._last = 0
        self._line: ClientConnection | None = None
        self._ready = asyncio.Event()
        self._ending = False
        self._keeping = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        """Be connected."""
        while not self._ending:
            query = f"?{urlencode({'pid': self.conductor})}" if self.conductor else ""
            try:
                self._line = await connect(self._url + query, ping_interval=None, open_timeout=PATIENCE)
                async for text in self._line:
                    self._take(*json.loads(text))
            except (OSError, WebSocketException):
                await asyncio.sleep(0.02)  # the gateway is being restarted
            self._ready.clear()
            for answer in self._answers.values():
                answer.cancel()
            self._answers.clear()

    def _take(self, what: str, *values: Any) -> None:
        if what == "conductor":
            self.conductor = values[0]
            self._ready.set()
        elif what == "born":
            self._born(*values)
        elif (answer := self._answers.pop(values[0], None)) is not None and not answer.done():
            answer.set_result(values[1])

    async def ask(self, *order: Any) -> Any:
        """Have an order carried out; the conductor's answer, None if it was lost with the line. Raises TimeoutError."""
        await asyncio.wait_for(self._ready.wait(), PATIENCE)
        line = self._line
        if line is None:
            raise AssertionError("whoever is ready has a line")
        self._last += 1
        answer = self._answers[self._last] = asyncio.get_running_loop().create_future()
        try:
            await line.send(json.dumps([self._last, *order]))
            return await asyncio.wait_for(asyncio.shield(answer), PATIENCE)
        except (asyncio.CancelledError, ConnectionClosed):
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            if self._line is line:  # whoever keeps it has not seen yet that it is closed: nobody is to ask on it again
                self._ready.clear()
            return None

    async def end(self) -> None:
        """End the conductor."""
        self._ending = True
        await self.ask("end")
        await asyncio.wait_for(self._keeping, PATIENCE)

    async def close(self) -> None:
        """Ask no more."""
        self._keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeping
        if self._line is not None:
            await self._line.close()
