"""What an `http.admin` serves: `/metrics`, `/healthz` and `/readyz`, and nothing else.

Owns the asking of the supervisor, within a time limit, and the collecting of what the gateway has counted. An ASGI application
of its own, on a server of its own, which goes on while the others are shut down.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

from ...kernel.wire.configuration import unpack
from ...kernel.wire.messages import Observe, Observed
from ...kernel.wire.observation import Histogram, Observation
from ..core.answers import Answer, framing_headers, plain_answer
from ..core.exposition import CONTENT_TYPE
from ..core.metrics import GatewayLook, OpenTotals, collect
from .connection import RelayConnection
from .relay import Relay
from .service import Service

PATIENCE: Final = 2.0
"""Seconds that the supervisor has to answer."""
SPACING: Final = 0.1
"""Seconds from one question to the next, however many requests come."""
ROTATION: Final = 30
"""Seconds after which a high-water mark begins anew."""
_NO_STORE: Final = (("cache-control", "no-store"),)


class Watcher:
    """Looks at this gateway once a second, and in full when asked."""

    def __init__(self, relay: Relay, services: Sequence[Service]) -> None:
        self.lag = Histogram()
        self._relay = relay
        self._services = services
        self._started_at = time.time()
        self._version = _version()
        self._ticks = 0

    def tick(self, lag: float) -> None:
        """A second has passed; the timer was so many seconds late."""
        self.lag.observe(max(0.0, lag))
        self._ticks += 1
        if self._ticks % ROTATION == 0:
            self._relay.workers.high_water.rotate()
            self._relay.stalls.high_water.rotate()

    def look(self) -> GatewayLook:
        """Everything, as it is now. It goes through all connections: some milliseconds for 20,000."""
        relay, workers = self._relay, self._relay.workers
        pending = [link.pending for link in workers.links()]
        workers.high_water.note(max(pending, default=0))
        totals = _totals(relay.connections.values())
        return GatewayLook(
            self._version,
            self._started_at,
            [
                (service.id, service.counts, totals.get(service.id, OpenTotals()), service.waiting)
                for service in self._services
                if not service.admin
            ],
            sum(pending),
            workers.high_water.value,
            relay.stalls.bytes_waiting(),
            relay.stalls.high_water.value,
            workers.stalls,
            sum(link.congested for link in workers.links()),
            relay.crash_to_close.data(),
            self.lag.data(),
        )


def _totals(connections: Iterable[RelayConnection]) -> dict[str, OpenTotals]:
    sums: dict[str, list[int]] = {}
    for connection in connections:
        if connection.account is not None:
            total = sums.setdefault(connection.account.server, [0] * 5)
            total[0] += 1
            total[1] += connection.session.message_count
            total[2] += connection.sent
            total[3] += connection.received
            total[4] += connection.bytes_queued()
    return {server: OpenTotals(*total) for server, total in sums.items()}


def _version() -> str:
    try:
        return version("wsrelay")
    except PackageNotFoundError:
        return "unknown"


class AdminApplication:
    """The HTTP side of an `http.admin`."""

    def __init__(self, relay: Relay, watcher: Watcher) -> None:
        from .measuring import Measuring  # and psutil: most gateways serve no `http.admin`

        self._relay = relay
        self._watcher = watcher
        self._measuring = Measuring()
        self._asking: asyncio.Task[Observation | None] | None = None
        self._asked_at = float("-inf")
        self._rendered: tuple[Observation | None, bytes] = (None, b"")

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        answer = await self._answer(scope["method"], scope["path"])
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": framing_headers(answer),
                "trailers": False,
            }
        )
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _answer(self, method: str, path: str) -> Answer:
        if path not in ("/metrics", "/healthz", "/readyz"):
            return plain_answer(404)
        if method not in ("GET", "HEAD"):
            return plain_answer(405, headers=(("allow", "GET, HEAD"),))
        observation = await self._ask()
        if path == "/metrics":
            return Answer(200, (("content-type", CONTENT_TYPE), *_NO_STORE), await self._render(observation))
        if observation is None:
            return plain_answer(503, "the supervisor does not answer", _NO_STORE)
        if path == "/readyz" and observation.unready:
            return plain_answer(503, observation.unready, _NO_STORE)
        return plain_answer(200, "ok", _NO_STORE)

    async def _render(self, observation: Observation | None) -> bytes:
        """The text; those who were told the same get the same."""
        if observation is None:
            return collect(self._watcher.look(), None, ()).render()
        usages = await self._measuring.measure(observation.processes)
        if self._rendered[0] is not observation:
            self._rendered = observation, collect(self._watcher.look(), observation, usages).render()
        return self._rendered[1]

    async def _ask(self) -> Observation | None:
        """What the supervisor says. All who ask meanwhile share the answer: whoever floods us must not flood the supervisor."""
        if self._asking is None:
            self._asking = self._relay.loop.create_task(self._ask_supervisor())
            self._asking.add_done_callback(self._asked)
        return await asyncio.shield(self._asking)

    def _asked(self, _: asyncio.Task[Observation | None]) -> None:
        self._asking = None

    async def _ask_supervisor(self) -> Observation | None:
        """Ask, though not at once if that was just done; None if there is no answer in time."""
        await asyncio.sleep(max(0.0, self._asked_at + SPACING - time.monotonic()))
        self._asked_at = time.monotonic()
        answered: asyncio.Future[Observed] = self._relay.loop.create_future()

        def take(record: Observed) -> None:
            if not answered.done():
                answered.set_result(record)

        number = self._relay.kernel.request(Observe, take)
        try:
            async with asyncio.timeout(PATIENCE):
                return unpack(Observation, (await answered).observation)
        except TimeoutError:
            return None
        finally:
            self._relay.kernel.forget(number)
