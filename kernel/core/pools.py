"""Function pools: which worker of a host runs which invocation next (S57, S58).

Owns the free workers and the waiting requests. Starting a worker and granting a request are the table's: two functions
that it passes in.
"""

from __future__ import annotations

from collections.abc import Callable

from ..wire import messages as m
from ..wire.configuration import Application
from ..wire.errors import LimitExceeded
from .processes import Pool, Worker

REFILL_DELAY = 1.0
"""Seconds before a worker that died idle is replaced: one that cannot even start must not be forked in a loop."""


class FunctionPools:
    """The pools of all hosts."""

    def __init__(
        self,
        application: Application,
        start_worker: Callable[[str], int],
        grant: Callable[[m.RequestInvocation, int], None],
        retire: Callable[[int], None],
    ) -> None:
        """`start_worker(host) -> number` forks a function worker; `grant(request, number)` gives it away;
        `retire(number)` ends one that is free and of no use any more."""
        used = set(application.function_hosts.values())
        self._function_hosts = application.function_hosts
        self._pools = {host.id: Pool(host.functions) for host in application.hosts.values() if host.id in used}
        self._start_worker = start_worker
        self._grant = grant
        self._retire = retire
        self._closed = False

    def reconfigure(self, application: Application) -> list[m.RequestInvocation]:
        """Have the pools that are configured now. Returns the requests that waited: to be made again.

        Workers that are too many, or whose host has no functions any more, end when they are free. `renew` fills the others.
        """
        used = set(application.function_hosts.values())
        self._function_hosts = application.function_hosts
        waiting: dict[int, m.RequestInvocation] = {}
        for host, pool in self._pools.items():
            waiting |= pool.waiting
            pool.waiting.clear()
            pool.size = application.hosts[host].functions if host in used else 0
        for host in used - self._pools.keys():
            self._pools[host] = Pool(application.hosts[host].functions)
        for host, pool in list(self._pools.items()):
            excess = sorted(pool.workers - pool.stale, key=lambda number: number not in pool.free)
            pool.stale |= set(excess[: max(0, len(pool.workers) - len(pool.stale) - pool.size)])
            self._end_stale(host)
            if not pool.workers and host not in used:
                del self._pools[host]
        return [request for _, request in sorted(waiting.items())]

    def renew(self, host: str) -> None:
        """Replace the workers of a host, each as soon as it is free."""
        if (pool := self._pools.get(host)) is not None:
            pool.stale |= pool.workers
            self._end_stale(host)
            self.refill(host)

    def _end_stale(self, host: str) -> None:
        pool = self._pools[host]
        for number in [each for each in pool.free if each in pool.stale]:
            self._end(pool, number)

    def _end(self, pool: Pool, number: int) -> None:
        """End a worker that is no process now."""
        pool.workers.discard(number)
        pool.stale.discard(number)
        if number in pool.free:
            pool.free.remove(number)
        self._retire(number)

    def fill_all(self) -> None:
        """Start every worker that is missing."""
        for host in self._pools:
            self.refill(host)

    def refill(self, host: str) -> None:
        """Start the workers that `host` is missing."""
        pool = self._pools.get(host)
        if pool is None:  # it was removed while it waited for its refill
            return
        pool.refilling = False
        while len(pool.workers) < pool.size and not self._closed:
            number = self._start_worker(host)
            pool.workers.add(number)
            self.release(host, number)

    def request(self, request: m.RequestInvocation) -> None:
        """Grant at once, or let it wait. Raises LimitExceeded for a host that keeps no function workers."""
        host = self._function_hosts[request.function]
        pool = self._pools[host]
        if pool.size == 0:
            raise LimitExceeded(f"{host} keeps no function workers (functions: 0)")
        if pool.free:
            self._grant(request, pool.free.popleft())
        else:
            pool.waiting[request.request] = request

    def withdraw_request(self, request: int) -> bool:
        """Forget a waiting request. Returns whether it was waiting."""
        return any(pool.waiting.pop(request, None) is not None for pool in self._pools.values())

    def withdraw_all(self) -> None:
        """Forget every waiting request."""
        for pool in self._pools.values():
            pool.waiting.clear()

    def release(self, host: str, number: int) -> None:
        """A worker is free: for the request that waited longest, if there is one."""
        pool = self._pools[host]
        if number in pool.stale:
            self._end(pool, number)
            self.refill(host)
        elif pool.waiting:
            self._grant(pool.waiting.pop(next(iter(pool.waiting))), number)
        else:
            pool.free.append(number)

    def withdraw_worker(self, host: str, number: int) -> None:
        """A worker is about to die: grant it no more."""
        pool = self._pools.get(host)
        if pool is not None and number in pool.free:
            pool.free.remove(number)

    def remove_worker(self, host: str, number: int, *, crashed_idle: bool, now: float) -> float | None:
        """A worker is dead: replace it. Returns the time of the refill if it is to wait, in seconds on the caller's clock."""
        self.withdraw_worker(host, number)
        pool = self._pools.get(host)
        if pool is None or number not in pool.workers:  # it was retired
            return None
        pool.workers.discard(number)
        pool.stale.discard(number)
        if not crashed_idle:
            self.refill(host)
        elif not pool.refilling and not self._closed:
            pool.refilling = True
            return now + REFILL_DELAY
        return None

    def close(self) -> None:
        """Replace nobody from now on."""
        self._closed = True

    def check_invariants(self, workers: dict[int, Worker]) -> None:
        """Raise AssertionError if a pool and the workers disagree."""
        for host, pool in self._pools.items():
            if any(workers[number].host != host or not workers[number].is_function for number in pool.workers):
                raise AssertionError("a pool's workers are its host's function workers")
            if any(workers[number].pid is not None or number not in pool.workers for number in pool.free):
                raise AssertionError("a free worker is no process")
            if pool.free and pool.waiting:
                raise AssertionError("nobody waits while a worker is free")
            if not pool.stale <= pool.workers or not pool.stale.isdisjoint(pool.free):
                raise AssertionError("a worker of old code ends when it is free")
            if len(pool.workers - pool.stale) > pool.size:
                raise AssertionError("a pool has at most its size of workers")
