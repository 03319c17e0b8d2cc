"""A channel on the loop: what it holds on to."""

from __future__ import annotations

import asyncio
import gc
import weakref

from wsrelay.kernel.shell.attachment import Turn
from wsrelay.kernel.shell.worker import WorkerHandle
from wsrelay.kernel.wire.channel import channel_pair


def test_a_closed_worker_is_freed_at_once() -> None:
    # It has large buffers, and a supervisor makes too little garbage for the collector to come by.
    loop = asyncio.new_event_loop()
    ours, theirs = channel_pair()
    turn = Turn()
    handle = WorkerHandle(loop, turn, 1, "a:host", 1000, ours, lambda _: None, lambda _: None, lambda _: None)
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
