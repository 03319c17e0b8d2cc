"""The descriptors of this process, when there are not enough.

Owns the question whether a client may have one, the few that are kept back so that an `http.admin` answers when no other is left,
and the line in the log.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
import time
from collections.abc import Callable
from typing import Final

logger = logging.getLogger("wsrelay.gateway")

RESERVED: Final = 64
"""That no client gets: for files, libraries, new workers, and who asks an `http.admin`."""
_SPARE: Final = 4
_SILENCE: Final = 10.0
"""Seconds from one line in the log to the next."""


def are_used_up(problem: OSError) -> bool:
    """Whether this process, or the machine, has no descriptor left."""
    return problem.errno in (errno.EMFILE, errno.ENFILE)


class Descriptors:
    """Of this process. `refill` keeps the first ones back."""

    def __init__(self, clients: Callable[[], int] = lambda: 0, workers: Callable[[], int] = lambda: 0) -> None:
        """How many clients and workers there are: each has one."""
        self._clients = clients
        self._workers = workers
        self._spare: list[int] = []
        self._refused = 0
        self._said_at = float("-inf")

    def has_room(self) -> bool:
        """Whether one more client may have one."""
        return self._clients() + self._workers() < _limit() - RESERVED

    def check(self, connections: int) -> None:
        """Say so if not so many clients can be served at once."""
        room = max(0, _limit() - RESERVED)
        if connections > room:
            logger.info(
                "limits.connections is %d in all, but %d open files are allowed: no more than %d clients are served, less one for each worker",
                connections,
                _limit(),
                room,
            )

    def refill(self) -> None:
        """Keep some back, if there are any."""
        try:
            while len(self._spare) < _SPARE:
                self._spare.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as problem:
            if not are_used_up(problem):
                raise

    def release_spare(self) -> bool:
        """Close one of those that are kept back, so that the next call gets it. Returns whether there was one."""
        if not self._spare:
            return False
        os.close(self._spare.pop())
        return True

    def report_refusal(self) -> None:
        """A client got none: say it, though not too often."""
        self._refused += 1
        now = time.monotonic()
        if now - self._said_at < _SILENCE:
            return
        logger.error(
            "no descriptor for a client: refused %d; %d open files are allowed, for %d clients, %d workers and the gateway itself",
            self._refused,
            _limit(),
            self._clients(),
            self._workers(),
        )
        self._refused, self._said_at = 0, now


def _limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
