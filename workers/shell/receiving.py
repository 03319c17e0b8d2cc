"""Receiving, in both colours of handlers: what `process.receive`, `inbox`, `events` and `listen` have in common."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Generic, TypeVar

from ...kernel.wire.errors import Invalid
from ...kernel.wire.quantities import parse_duration
from ..core.streams import NotListening, Stream, Topic
from .current import current

Element = TypeVar("Element")


def receive_from(stream: Stream | Topic, timeout: float | str | None) -> Any:
    """Return the next item, or in an async handler what waits for it. Raises Timeout, Invalid, and NotListening for a topic."""
    runtime = current()
    runtime.require_handler_thread()
    if timeout is None:
        if runtime.port is not None:
            return runtime.port.receive(stream, None)
        return runtime.receive(stream, None)
    try:
        seconds = parse_duration(timeout)
    except ValueError as error:
        raise Invalid(f"timeout: {error}") from None
    if runtime.port is not None:
        return runtime.port.receive(stream, seconds)
    return runtime.receive(stream, seconds)


class Receiver(Generic[Element]):
    """What `inbox`, `events` and `listen` return: an iterable, `for` in a plain handler, `async for` in an async one. It is
    endless, but for that of a topic, which ends when `unlisten` is called."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream | Topic) -> None:
        self._stream = stream

    def receive(self, timeout: float | str | None = None) -> Any:
        """Return the next item. Raises Timeout when `timeout` runs out before there is one, and Invalid if it is that of a
        topic which is not listened to any more."""
        return receive_from(self._stream, timeout)

    def __iter__(self) -> Receiver[Element]:
        if current().port is not None:
            raise Invalid("this handler is async: iterate with `async for`")
        return self

    def __next__(self) -> Element:
        runtime = current()
        if runtime.port is not None:
            raise Invalid("this handler is async: iterate with `async for`")
        runtime.require_handler_thread()
        try:
            item: Element = runtime.receive(self._stream, None)  # type: ignore[assignment]
        except NotListening:
            raise StopIteration from None
        return item

    def __aiter__(self) -> Receiver[Element]:
        if current().port is None:
            raise Invalid("this handler is not async: iterate with `for`")
        return self

    def __anext__(self) -> Awaitable[Element]:
        item: Awaitable[Element] = (
            _next_listened(self._stream) if isinstance(self._stream, Topic) else receive_from(self._stream, None)
        )
        return item


async def _next_listened(topic: Topic) -> Any:
    try:
        return await receive_from(topic, None)
    except NotListening:
        raise StopAsyncIteration from None
