"""Function invocations: an HTTP handler in a function worker (S57, S58).

Owns the way of one request to a handler: wait for a worker, send the request, wait for the response, each bounded. What
comes back is a `Completed` response or an `Answer` of the gateway's own. Knows nothing of sockets to clients.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from ...kernel.wire.messages import (
    Granted,
    Refused,
    Request,
    RequestInvocation,
    Response,
    TerminateInvocation,
    WithdrawInvocation,
)
from ...kernel.wire.reason import WireReason
from ..core.answers import Answer, answer_for_end, overloaded, plain_answer
from .data_channels import WorkerLink, Workers
from .kernel_link import KernelLink
from .service import Service

logger = logging.getLogger("wsrelay.gateway")


class Completed(NamedTuple):
    """The handler answered; `pid` was its process."""

    pid: str
    response: Response


Outcome: TypeAlias = Completed | Answer


class Invocation:
    """One request. `outcome` is resolved exactly once."""

    def __init__(
        self,
        owner: Invocations,
        service: Service,
        function: str,
        build: Callable[[str], Request],
        *,
        handshake: bool,
    ) -> None:
        self.outcome: asyncio.Future[Outcome] = owner.loop.create_future()
        self._owner = owner
        self._service = service
        self._function = function
        self._build = build
        self._pid: str | None = None
        service.waiting += 1
        self._request = owner.kernel.request(
            lambda number: RequestInvocation(number, function, handshake), self._answered
        )
        self._timer = owner.loop.call_later(service.timeouts.request, self._no_worker)

    def client_gone(self) -> None:
        """Nobody waits for the answer. A handler that runs already is left to end: it may have spawned a target."""
        if self._pid is None and not self.outcome.done():
            self._withdraw(plain_answer(503))

    def _answered(self, answer: Granted | Refused) -> None:
        self._service.waiting -= 1
        self._timer.cancel()
        if isinstance(answer, Refused):
            logger.warning("no worker for %s: %s", self._function, answer.message)
            self._resolve(overloaded("No worker is free") if answer.error == "LimitExceeded" else plain_answer(503))
            return
        link = self._owner.workers.get(answer.worker)
        if link is None:
            self._resolve(plain_answer(502))
            return
        self._pid = answer.pid
        link.pid = answer.pid
        self._owner.running[answer.pid] = self
        self._timer = self._owner.loop.call_later(self._service.timeouts.request, self._too_long)
        link.send(self._build(answer.pid))

    def _no_worker(self) -> None:
        self._withdraw(overloaded("No worker is free"))

    def _withdraw(self, answer: Answer) -> None:
        self._service.waiting -= 1
        self._owner.kernel.forget(self._request)
        self._owner.kernel.send(WithdrawInvocation(self._request))
        self._resolve(answer)

    def _too_long(self) -> None:
        logger.warning("%s took longer than timeouts.request", self._function)
        if self._pid is not None:
            self._owner.kernel.send(TerminateInvocation(self._pid))
        self._resolve(plain_answer(504))

    def respond(self, response: Response) -> None:
        """The handler's response is there."""
        self._resolve(Completed(response.pid, response))

    def end(self, reason: WireReason) -> None:
        """The handler's process has ended without one."""
        logger.warning("%s ended without a response: %s", self._function, reason.kind)
        self._resolve(answer_for_end(reason))

    def _resolve(self, outcome: Outcome) -> None:
        self._timer.cancel()
        if self._pid is not None:
            self._owner.running.pop(self._pid, None)
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Invocations:
    """All invocations of the gateway."""

    def __init__(self, loop: asyncio.AbstractEventLoop, kernel: KernelLink, workers: Workers) -> None:
        self.loop = loop
        self.kernel = kernel
        self.workers = workers
        self.running: dict[str, Invocation] = {}
        """By PID, those whose response is awaited."""

    def invoke(
        self, service: Service, function: str, build: Callable[[str], Request], *, handshake: bool = False
    ) -> Invocation | Answer:
        """Start an invocation; `build` makes its Request from its PID, `handshake` says that it is to answer a WebSocket
        handshake (S44). 503 if too many requests wait (S58)."""
        if service.waiting >= service.limits.queue:
            return overloaded("Too many requests are waiting")
        return Invocation(self, service, function, build, handshake=handshake)

    def handle_response(self, link: WorkerLink, response: Response) -> bool:
        """A worker answers. Only for the process that it is. Returns False if nobody waits for the answer any more."""
        if response.pid != link.pid:
            link.report("it answered for a process that it is not")
            return True
        invocation = self.running.get(response.pid)
        if invocation is None:
            return False
        invocation.respond(response)
        return True

    def handle_end(self, pid: str, reason: WireReason) -> None:
        """A process has ended, and what it had written has been handled."""
        invocation = self.running.get(pid)
        if invocation is not None:
            invocation.end(reason)
