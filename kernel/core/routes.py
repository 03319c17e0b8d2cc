"""Messages between workers: who gets them, and from whom (S6, S8, S9).

Owns the two ways to say it, which must agree: for one record with all its destinations (`send`), and for whatever one worker has
sent to the same process, one message after the other (`route`). Both are on the way of every message.
"""

from __future__ import annotations

from ..wire import messages as m
from ..wire.errors import ProtocolViolation
from .effects import SendToWorker
from .population import Population
from .processes import Kind, Process

_CONNECTION = Kind.CONNECTION  # an enumeration's members are slow to look up


class Routes:
    """Where messages go. One to the dead goes nowhere (S8)."""

    def __init__(self, population: Population) -> None:
        self._population = population
        self._processes = population.processes
        self._workers = population.workers

    def send(self, sender: Process, message: m.Send) -> None:
        """Deliver a message to all its destinations. Raises ProtocolViolation for a topic that is not the sender's to use (S9),
        and for a connection, whose messages go to the gateway (S6)."""
        destinations, topic, payload = message
        if m.topic_is_reserved(topic) or len(topic) > m.MAX_TOPIC:
            raise ProtocolViolation("a message on a topic that is reserved or too long")
        deliver = m.Deliver(sender.pid, topic, payload)
        processes, effects = self._processes, self._population.effects
        for pid in destinations:
            process = processes.get(pid)
            if process is None:
                continue
            if process.kind is _CONNECTION:
                raise ProtocolViolation("a message to a connection on the control channel")
            effects.append(SendToWorker(process.worker, deliver))

    def route(self, number: int, destination: str) -> tuple[str, int] | None:
        """Who a worker's messages to `destination` are from, and the number of the worker that gets them. None unless that is
        all that `send` would say of each."""
        worker = self._workers.get(number)
        if worker is None or worker.pid is None or worker.upgrade is not None:
            return None
        sender, receiver = self._processes.get(worker.pid), self._processes.get(destination)
        if sender is None or receiver is None or receiver.kind is _CONNECTION:
            return None
        return sender.pid, receiver.worker
