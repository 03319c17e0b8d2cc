"""`process.registry` (S32), in both colours of handlers."""

from __future__ import annotations

from typing import Any

from ...kernel.wire import messages as wire
from ...kernel.wire.pid import check_name
from ..core import outgoing
from .current import current
from .sending import lookup as lookup_name
from .sending import nothing


class Registry:
    """`process.registry`: one live process for a name, any number of names for a process (S32)."""

    __slots__ = ()

    @staticmethod
    def register(name: str, pid: str | None = None) -> Any:
        """Give a process, this one by default, a name. Returns None. Giving the same name again changes nothing.

        Raises AlreadyExists, whose `pid` is the holder; NoProc for a process that has ended; Invalid.
        """
        runtime = current()
        name = check_name(name)
        holder = runtime.pid if pid is None else outgoing.check_pid(pid)
        return runtime.request(lambda request: wire.Register(request, name, holder), nothing)

    @staticmethod
    def lookup(name: str) -> Any:
        """Return the Pid of the process with this name, None if there is none. Raises Invalid."""
        return lookup_name(current(), check_name(name))

    @staticmethod
    def unregister(name: str) -> Any:
        """Take a name away. Returns None. Raises NotFound, and NotPermitted for a name that is another's; Invalid."""
        name = check_name(name)
        return current().request(lambda request: wire.Unregister(request, name), nothing)
