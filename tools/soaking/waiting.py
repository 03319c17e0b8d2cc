"""Waiting for a condition, while a program is performed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from .clients import PATIENCE

LOOK: Final = 0.01
"""Seconds between two looks."""


class Stuck(Exception):
    """Something that should have happened did not; the message says what."""


async def until(predicate: Callable[[], bool], message: Callable[[], str], timeout: float = PATIENCE) -> None:
    """Wait for a condition. Raises Stuck."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise Stuck(f"waited {timeout:g} s for {message()}")
        await asyncio.sleep(LOOK)
