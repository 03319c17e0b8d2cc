"""What the supervisor shows of itself: to operators, to the service manager, to whoever asks by a signal, and for metrics.

Only looks, between two turns: it changes nothing, reads no file and owns no state.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from ..core.service_states import State
from ..core.table import ProcessTable
from ..wire.configuration import Application
from .gateway import Gateway
from .host import Host
from .reload import Reloader
from .sweeping import Sweeper
from .timers import Timers
from .worker import WorkerHandle


class Subject(Protocol):
    """The runtime."""

    application: Application
    table: ProcessTable
    gateway: Gateway
    hosts: dict[str, Host]
    workers: dict[int, WorkerHandle]
    reloader: Reloader
    sweeper: Sweeper
    timers: Timers


class Views:
    """One runtime, looked at."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def parts(self) -> dict[str, bool]:
        """What must serve, by its name for people, and whether it does."""
        hosts = {f"the host {host.id}": host.ready for host in self._subject.hosts.values()}
        return {"the gateway": self._subject.gateway.ready, **hosts}

    def services(self) -> dict[str, State]:
        """The state of every supervised service."""
        return {id: state for id, (state, _) in self._subject.table.services().items()}

    def wanted_services(self) -> list[str]:
        """The services that start by themselves."""
        return [id for id, service in self._subject.application.services.items() if service.lifecycle.auto_start]

    def entries(self) -> list[str]:
        """Everything that a process can run."""
        application = self._subject.application
        return [*application.functions, *application.processes]

    def census(self) -> tuple[int, int]:
        """How many connections, and how many other processes live."""
        return self._subject.table.census()

    def sizes(self) -> dict[str, int]:
        """The sizes of all tables."""
        subject = self._subject
        return {
            **subject.table.statistics(),
            "connections": self.census()[0],
            "timers": subject.timers.pending(),
            "orphans": len(subject.sweeper.dying),
            "gateway": subject.table.gateway if subject.gateway.ready else 0,
        }

    def listing(self) -> Iterator[dict[str, Any]]:
        """Every OS process that we have started, and the process that it runs."""
        subject = self._subject
        if subject.gateway.child is not None:
            yield {"kind": "gateway", "os_pid": subject.gateway.child.os_pid, "entry": ""}
        for host in (*subject.hosts.values(), *subject.reloader.spare_hosts()):
            if host.child is not None:
                yield {"kind": "host", "os_pid": host.child.os_pid, "entry": host.id}
        for handle in subject.workers.values():
            if handle.child is not None:
                facts = subject.table.worker_facts(handle.number)
                yield {"kind": "worker", "os_pid": handle.child.os_pid, "host": handle.host, **facts}

    def running(self) -> Iterator[tuple[int, str]]:
        """Every worker that has an OS process: its os_pid, and the entry that it runs."""
        for handle in self._subject.workers.values():
            if handle.child is not None:
                yield handle.child.os_pid, str(self._subject.table.worker_facts(handle.number)["entry"])
