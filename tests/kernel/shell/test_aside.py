"""Work beside a real event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest
from wsrelay.kernel.shell.aside import aside


def test_the_loop_goes_on_meanwhile() -> None:
    async def both() -> str:
        loop, came = asyncio.get_running_loop(), threading.Event()
        loop.call_soon(came.set)
        return await aside(loop, lambda: "done" if came.wait(30) else "the loop stood still", print)

    assert asyncio.run(both()) == "done"


def test_what_it_raises_is_raised() -> None:
    def fail() -> None:
        raise OSError("no such thing")

    async def wait() -> None:
        await aside(asyncio.get_running_loop(), fail, print)

    with pytest.raises(OSError, match="no such thing"):
        asyncio.run(wait())


def test_what_nobody_waits_for_is_undone() -> None:
    let_go, undone = threading.Event(), threading.Event()

    async def give_up(loop_ends: bool) -> None:
        loop = asyncio.get_running_loop()
        begun, undone_here = asyncio.Event(), asyncio.Event()

        def work() -> str:
            loop.call_soon_threadsafe(begun.set)
            let_go.wait(30)
            return "made"

        def undo(made: str) -> None:
            assert made == "made"
            undone_here.set()
            undone.set()

        waiting = loop.create_task(aside(loop, work, undo))
        await asyncio.wait_for(begun.wait(), 30)
        waiting.cancel()
        if not loop_ends:
            let_go.set()
            await asyncio.wait_for(undone_here.wait(), 30)

    asyncio.run(give_up(loop_ends=False))
    let_go.clear()
    undone.clear()
    asyncio.run(give_up(loop_ends=True))
    let_go.set()
    assert undone.wait(30)
