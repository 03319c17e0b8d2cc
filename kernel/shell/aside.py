"""Work that may have to wait for strangers, such as for a name server, beside the event loop.

Owns the thread: one for each piece of work, which takes no signals but its own faults, and which nobody waits for at the end of the process.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import TypeVar

from ..wire.log_writer import FAULTS

Result = TypeVar("Result")


async def aside(loop: asyncio.AbstractEventLoop, work: Callable[[], Result], undo: Callable[[Result], None]) -> Result:
    """Return what `work` returns, or raise what it raises, while the loop goes on. If nobody waits any more when it is done, what
    it has made is undone. Raises RuntimeError if no thread is to be had."""
    outcome: asyncio.Future[Result] = loop.create_future()

    def take(result: Result) -> None:
        if outcome.done():
            undo(result)
        else:
            outcome.set_result(result)

    def fail(problem: Exception) -> None:
        if not outcome.done():
            outcome.set_exception(problem)

    def run() -> None:
        try:
            result = work()
        except Exception as problem:
            _tell(loop, fail, problem)
        else:
            if not _tell(loop, take, result):
                undo(result)

    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - FAULTS)
    try:
        threading.Thread(target=run, name="aside", daemon=True).start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return await outcome


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], value: object) -> bool:
    """Have the loop call it. Returns whether there is a loop."""
    try:
        loop.call_soon_threadsafe(callback, value)
    except RuntimeError:  # it is closed
        return False
    return True
