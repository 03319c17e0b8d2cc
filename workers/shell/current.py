"""The runtime of this process, for everything that handlers call: there is one in a worker, and none in what a worker forks."""

from __future__ import annotations

import os

from ...kernel.wire.errors import ChannelLost, ProcessError
from .runtime import Runtime

_current: Runtime | None = None


def current() -> Runtime:
    """Return this process's runtime. Raises ProcessError outside of a worker, ChannelLost in a forked child."""
    if _current is None:
        raise ProcessError("this works only in a handler that wsrelay runs")
    if _current.forked:
        raise ChannelLost("a forked child has no channel to the runtime: only the process that was spawned has one")
    return _current


def install(runtime: Runtime | None) -> None:
    """Make `runtime` this process's."""
    global _current
    _current = runtime


def _close_in_fork() -> None:
    if _current is not None and not _current.forked:
        _current.close_in_fork()


os.register_at_fork(after_in_child=_close_in_fork)
