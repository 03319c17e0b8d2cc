"""Connections that are held until a service has its name again (S56).

Owns who waits for which name of which service, and decides when that is over: the service's process has the name, or the
service will not come back. A stranger that takes the name meanwhile is not waited for. How long a connection waits, and
what it keeps, is the gateway's business.
"""

from __future__ import annotations

from ..wire import messages as m
from ..wire.reason import WireReason
from .effects import SendToGateway
from .names import Names
from .population import Population, require
from .processes import Kind, Process
from .service_states import COMING, State
from .services import Services


class Holds:
    """All held connections."""

    def __init__(self, population: Population, names: Names, services: Services) -> None:
        self._population = population
        self._services = services
        self._waiting: dict[str, dict[str, str]] = {}
        """Name to those who wait for it: connection to service."""
        self._name_of: dict[str, str] = {}
        """Connection to the name."""
        population.on_ended.append(self._ended)
        names.on_given = self._name_given
        services.on_changed = self._service_changed

    def wait(self, request: m.AwaitService) -> None:
        """A connection's target is dead: answer now, or when there is an answer. While the runtime stops there is none."""
        connection = self._population.processes.get(request.connection)
        if connection is None or connection.kind is not Kind.CONNECTION:
            return
        self._forget(connection.pid)
        holder = self._population.names.get(request.name)
        process = self._population.processes[holder[0]] if holder is not None else None
        if process is not None and process.service and process.service == connection.target_service:
            self._return(connection.pid, process)
        elif self._services.closed:
            return
        elif not self._services.is_coming(connection.target_service):
            self._population.effects.append(SendToGateway(m.ServiceGone(connection.pid)))
        else:
            self._waiting.setdefault(request.name, {})[connection.pid] = connection.target_service
            self._name_of[connection.pid] = request.name

    def _name_given(self, name: str, process: Process) -> None:
        waiting = self._waiting.get(name, {})
        for connection in [one for one, service in waiting.items() if service == process.service]:
            self._return(connection, process)

    def _return(self, connection: str, process: Process) -> None:
        self._forget(connection)
        process.admissions += 1
        self._population.processes[connection].target = process.pid
        self._population.effects.append(SendToGateway(m.ServiceReturned(connection, process.pid, process.worker)))

    def _service_changed(self, service: str, state: State) -> None:
        if state in COMING or self._services.closed:  # a runtime that stops closes its clients with another code
            return
        for waiting in list(self._waiting.values()):
            for connection in [one for one, awaited in waiting.items() if awaited == service]:
                self._forget(connection)
                self._population.effects.append(SendToGateway(m.ServiceGone(connection)))

    def _ended(self, process: Process, _: WireReason) -> None:
        if process.kind is Kind.CONNECTION:
            self._forget(process.pid)

    def _forget(self, connection: str) -> None:
        name = self._name_of.pop(connection, None)
        if name is not None:
            del self._waiting[name][connection]
            if not self._waiting[name]:
                del self._waiting[name]

    def check_invariants(self) -> None:
        """Raise AssertionError if somebody waits who does not live, or for what is there, or will never be."""
        waiting = {connection: name for name, those in self._waiting.items() for connection in those}
        require(waiting == self._name_of, "who is held for a name is kept on both sides")
        for connection, name in self._name_of.items():
            process = self._population.processes.get(connection)
            require(process is not None and process.kind is Kind.CONNECTION, "only a live connection is held")
            service = self._waiting[name][connection]
            require(self._services.closed or self._services.is_coming(service), "what is waited for can come (S56)")
            holder = self._population.names.get(name)
            stranger = holder is None or self._population.processes[holder[0]].service != service
            require(stranger, "nobody waits for a name that its service has (S56)")
