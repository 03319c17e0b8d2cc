"""Who waits for something to become so, and looks whenever a turn of the loop ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Waiters:
    """All who wait, each for a condition of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def look(self) -> None:
        """Wake those whose condition is true now."""
        for waiter in self._waiting[:]:
            condition, future = waiter
            if condition():
                self._waiting.remove(waiter)
                if not future.done():
                    future.set_result(None)

    async def wait_for(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until a look finds `condition()` true, at most `timeout` seconds. Returns whether it is."""
        if condition():
            return True
        waiter = (condition, self._loop.create_future())
        self._waiting.append(waiter)
        try:
            await asyncio.wait_for(waiter[1], timeout)
        except TimeoutError:
            self._waiting.remove(waiter)
            return False
        return True
