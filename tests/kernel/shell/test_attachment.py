"""A channel on the loop: what it holds on to, and what it tells."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest
from support.waiting import wait_until_async
from wsrelay.kernel.shell.attachment import EOF_GRACE, Attachment, Turn
from wsrelay.kernel.shell.worker import WorkerHandle
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.channel import Channel, channel_pair


def test_a_closed_worker_is_freed_at_once() -> None:
    # It has large buffers, and a supervisor makes too little garbage for the collector to come by.
    loop = asyncio.new_event_loop()
    ours, theirs = channel_pair()
    turn = Turn()
    handle = WorkerHandle(loop, turn, 1, "a:host", 1000, ours, *[lambda _: None] * 5)
    channel = weakref.ref(handle.channel)
    gc.disable()
    try:
        handle.attachment.release()
        turn.flush()
        handle.attachment.close()
        del handle
        assert channel() is None
    finally:
        gc.enable()
        loop.close()
        theirs.close()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.parametrize("closed", [False, True])
def test_its_owner_is_told_once_and_not_after_its_close(loop: asyncio.AbstractEventLoop, closed: bool) -> None:
    # What is told of an attachment that was closed would be taken for its successor's.
    told: list[float] = []

    async def run() -> None:
        turn = Turn()
        ours, theirs = channel_pair()
        theirs.close()
        channel = Channel(ours, m.GATEWAY_TO_SUPERVISOR)
        attachment = Attachment(loop, turn, channel, lambda: None, on_broken=lambda: told.append(loop.time()))
        attachment.stop_reading()
        written = loop.time()
        for _ in range(2):
            attachment.send(m.Shutdown())
            turn.flush()
        if closed:
            attachment.close()
        await wait_until_async(lambda: loop.time() > written + 3 * EOF_GRACE)
        attachment.close()
        if not closed:
            assert told[0] >= written + EOF_GRACE

    loop.run_until_complete(run())
    assert len(told) == (0 if closed else 1)
