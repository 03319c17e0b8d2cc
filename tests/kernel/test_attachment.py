"""A channel on the event loop that cannot be written any more (S13, S43)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from support.waiting import wait_until_async
from wsrelay.kernel.shell.attachment import EOF_GRACE, Attachment, Turn
from wsrelay.kernel.wire import messages as m
from wsrelay.kernel.wire.channel import Channel, channel_pair


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
