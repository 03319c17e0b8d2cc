"""Waiting without sleeping: the one place in the kit, and in the tests, where time passes."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable
from typing import TypeVar

STEP = 0.005
"""Seconds between two looks."""
TIMEOUT = 15.0
"""Seconds after which a test gives up: long enough for a loaded machine, and never reached by a test that passes."""

Value = TypeVar("Value")


def wait_until(
    predicate: Callable[[], Value],
    timeout: float = TIMEOUT,
    message: str | Callable[[], str] = "the condition",
    *,
    step: float = STEP,
) -> Value:
    """Call `predicate`, every `step` seconds, until it returns something true, and return that. Raises AssertionError after
    `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(_complaint(timeout, message))
        select.select([], [], [], step)
    return value


async def wait_until_async(
    predicate: Callable[[], Value], timeout: float = TIMEOUT, message: str | Callable[[], str] = "the condition"
) -> Value:
    """`wait_until` for coroutines: the event loop runs between two looks."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while not (value := predicate()):
        if loop.time() > deadline:
            raise AssertionError(_complaint(timeout, message))
        step: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(STEP, step.set_result, None)
        try:
            await step
        finally:
            timer.cancel()
    return value


def _complaint(timeout: float, message: str | Callable[[], str]) -> str:
    return f"waited {timeout:g} s for {message if isinstance(message, str) else message()}"
