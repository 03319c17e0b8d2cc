"""Registered names: who has which, and who may have it (S5, S32, S36).

Owns the rules; the names themselves are the population's, because a death takes them away. A name that a service is
configured to register is kept for that service, also while it does not run: otherwise a stranger who took it during a
backoff would keep the service from coming back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..wire import messages as m
from ..wire.configuration import Service
from ..wire.errors import AlreadyExists, NoProc, NotFound, NotPermitted
from ..wire.pid import Pid, check_name
from .population import Population, require
from .processes import Process


class Names:
    """What processes ask about names."""

    def __init__(self, population: Population, services: Iterable[Service]) -> None:
        """`services` are all that are configured."""
        self._population = population
        self.on_given: Callable[[str, Process], None] = lambda name, process: None
        """Told of a name that a process has got."""
        self._kept: dict[str, str] = {}
        self._taken_before: set[str] = set()
        """Names that a stranger had when they became a service's: they are its own until it ends."""
        self.keep_for(services)

    def keep_for(self, services: Iterable[Service]) -> None:
        """Keep names for these services, and for no others from now on."""
        self._kept = {service.register: service.id for service in services if service.register is not None}
        self._taken_before = {
            name
            for name, service in self._kept.items()
            if (holder := self._population.names.get(name)) and self._population.processes[holder[0]].service != service
        }

    def check_free(self, name: str, *, pid: str = "", service: str = "") -> None:
        """Raise AlreadyExists unless nobody but `pid` has the name, and it is kept for no other service than `service`."""
        holder = self._population.names.get(name)
        if holder is not None and holder[0] != pid:
            raise AlreadyExists(f"the name {name!r} belongs to {holder[0]}", pid=holder[0])
        keeper = self._kept.get(name)
        if keeper is not None and keeper != service:
            raise AlreadyExists(f"the name {name!r} is kept for the service {keeper}, no process of which has it now")

    def give(self, name: str, process: Process, registrar: str) -> None:
        """Let a process have a name that is free."""
        self._population.names[name] = (process.pid, registrar)
        self._taken_before.discard(name)
        process.names[name] = None
        self.on_given(name, process)

    def register(self, registrar: Process, request: m.Register) -> None:
        """Name a live process (S32). Raises AlreadyExists, NoProc, Invalid or LimitExceeded."""
        name = check_name(request.name)
        process = self._population.processes.get(Pid.parse(request.pid))
        if process is None:
            raise NoProc(f"{request.pid} has ended or never was: it cannot be named {name!r}")
        self.check_free(name, pid=process.pid, service=process.service)
        if name not in process.names:
            self._population.check_room(process.names, "names")
            self.give(name, process, registrar.pid)
        self._population.reply(registrar, request.request)

    def unregister(self, caller: Process, request: m.Unregister) -> None:
        """Take a name away (S32). Raises NotFound or NotPermitted."""
        holder = self._population.names.get(request.name)
        if holder is None:
            raise NotFound(f"no process has the name {request.name!r:.200}")
        if caller.pid not in holder:
            raise NotPermitted(f"the name {request.name!r} belongs to {holder[0]}: only it, or who registered it, may")
        del self._population.names[request.name]
        del self._population.processes[holder[0]].names[request.name]
        self._population.reply(caller, request.request)

    def lookup(self, caller: Process, request: m.Lookup) -> None:
        """Resolve a name."""
        holder = self._population.names.get(request.name)
        self._population.reply(caller, request.request, holder[0] if holder else None)

    def check_invariants(self) -> None:
        """Raise AssertionError if a stranger has a name that is kept for a service."""
        for name, service in self._kept.items():
            holder = self._population.names.get(name)
            if holder is not None and name not in self._taken_before:
                require(self._population.processes[holder[0]].service == service, "a service's name is kept for it")
