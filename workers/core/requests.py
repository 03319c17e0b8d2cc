"""Requests to the supervisor: their ids, and whom their answers are for.

Every request is answered, so an entry lives until then, even if its caller has given up.
"""

from __future__ import annotations

from collections.abc import Callable

from ...kernel.wire import messages as wire
from ...kernel.wire.errors import BY_CODE, AlreadyExists, ProcessError
from ...kernel.wire.pid import Pid
from ...kernel.wire.reason import WireReason

Answer = wire.Reply | wire.Failed | wire.Members | wire.Executed
Value = str | int | tuple[Pid, ...] | WireReason | None


class Requests:
    """The requests that wait for an answer. Ids count up from 1."""

    def __init__(self) -> None:
        self.last = 0
        """The number of the last request. Those of a process never come twice, in its new code either (S35)."""
        self._waiting: dict[int, Callable[[Answer], None]] = {}

    def open(self, on_answer: Callable[[Answer], None]) -> int:
        """Return a new id; `on_answer` is called once, when the answer is read."""
        self.last += 1
        request = self.last
        self._waiting[request] = on_answer
        return request

    def withdraw(self, request: int) -> None:
        """The request was never sent."""
        self._waiting.pop(request, None)

    def answered(self, answer: Answer) -> None:
        """An answer was read. One that nobody waits for is dropped."""
        on_answer = self._waiting.pop(answer.request, None)
        if on_answer is not None:
            on_answer(answer)


def value_of(answer: Answer) -> Value:
    """Return what a request was answered with; raise the error of a Failed."""
    match answer:
        case wire.Reply():
            return answer.value
        case wire.Members():
            return tuple(map(Pid, answer.pids))
        case wire.Executed():
            return answer.reason
    if answer.error == AlreadyExists.code:
        raise AlreadyExists(answer.message, answer.pid)
    raise BY_CODE.get(answer.error, ProcessError)(answer.message)
