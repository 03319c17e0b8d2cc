"""`process.exec`: a child that is run for its value (S34), in both colours of handlers.

Whoever stops waiting, for whatever reason, says so (`GiveUp`), and the supervisor kills the child.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...kernel.wire import messages as wire
from ...kernel.wire.reason import NORMAL, WireReason
from ..core.items import ExitError, reason_from_wire
from ..core.outgoing import Frames, frame
from .runtime import Runtime


class _Execution:
    """One execution, from the request to its answer."""

    def __init__(self, runtime: Runtime, make: Callable[[int], tuple[Any, ...]]) -> None:
        self._runtime = runtime
        self._make = make
        self._asked = 0
        """The request, while it is not answered."""

    def ask(self) -> Any:
        """Ask and wait; in an async handler, return what waits."""
        return self._runtime.request(self._open, _finish, self._answered)

    def _open(self, request: int) -> tuple[Any, ...]:
        self._asked = request
        return self._make(request)

    def _answered(self) -> None:
        self._asked = 0

    def give_up(self) -> None:
        """Nobody waits any more."""
        if self._asked:
            self._runtime.post(Frames(control=frame(wire.GiveUp(self._asked))), None)


def execute(runtime: Runtime, make: Callable[[int], tuple[Any, ...]]) -> Any:
    """Return the value that the child of this Execute returns. Raises ExitError, and the error of a Failed."""
    execution = _Execution(runtime, make)
    if runtime.port is not None:
        return _execute_async(execution)
    try:
        return execution.ask()
    except BaseException:
        execution.give_up()
        raise


async def _execute_async(execution: _Execution) -> Any:
    try:
        return await execution.ask()
    except BaseException:
        execution.give_up()
        raise


def _finish(request: int, value: WireReason) -> Any:
    reason = reason_from_wire(value)
    if reason.kind != NORMAL:
        raise ExitError(f"it did not return: {reason}", reason)
    return reason.value
