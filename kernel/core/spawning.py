"""Spawn: from a request to a process that can be addressed, in one step (S3, S4, S5).

Owns the serials of PIDs and workers, and how many actors each host runs. What cannot be is refused before anything exists.
"""

from __future__ import annotations

from ..wire import messages as m
from ..wire.configuration import Application
from ..wire.errors import LimitExceeded, NotFound
from ..wire.pid import SUPERVISOR_OWNER, Pid, check_name
from .effects import StartWorker
from .names import Names
from .population import Population, require
from .processes import Kind, Process, Worker


class Spawning:
    """Makes processes and workers."""

    def __init__(
        self, population: Population, names: Names, application: Application, *, node: str, epoch: str
    ) -> None:
        """`node` and `epoch` are what every PID of this boot says (S1)."""
        self._population = population
        self._names = names
        self._application = application
        self._node = node
        self._epoch = epoch
        self._last_serial = 0
        self._last_worker = 0
        self._actors = dict.fromkeys(application.hosts, 0)

    def reconfigure(self, application: Application) -> None:
        """Spawn what is configured now. Who lives on a host that is configured no more lives on."""
        self._application = application
        for host in application.hosts:
            self._actors.setdefault(host, 0)

    def make_pid(self, host: str) -> Pid:
        """Allocate a PID."""
        self._last_serial += 1
        return Pid.make(self._node, host, self._epoch, SUPERVISOR_OWNER, self._last_serial)

    def _start_worker(self, host: str, pid: Pid | None, entry: tuple[str, str, str], arguments: bytes) -> Worker:
        self._last_worker += 1
        limits = self._application.hosts[host].limits
        worker = Worker(
            self._last_worker, host, is_function=pid is None, limits=limits, gateway=self._population.gateway, pid=pid
        )
        self._population.workers[worker.number] = worker
        start = m.Start(worker.number, pid or "", host, *entry, arguments, limits.mailbox)
        self._population.effects.append(StartWorker(worker.number, host, start))
        return worker

    def start_function_worker(self, host: str) -> int:
        """Fork a worker that waits for invocations; return its number."""
        return self._start_worker(host, None, ("", "", ""), b"").number

    def check(self, entry: str, host: str, name: str | None = None, service: str = "") -> None:
        """Raise NotFound, AlreadyExists or LimitExceeded if `create` cannot be (S3, S5)."""
        if entry not in self._application.processes:
            raise NotFound(f"no process.python entry {entry!r}: expected the id of one, namespace:name")
        if host not in self._application.hosts:
            raise NotFound(f"no process.host entry {host!r}: expected the id of one, namespace:name")
        if name is not None:
            self._names.check_free(name, service=service)
        most = self._application.hosts[host].max_processes
        if self._actors[host] >= most:
            raise LimitExceeded(f"{host} is full: it runs {most} processes (max_processes)")

    def create(
        self, entry: str, host: str, arguments: bytes, *, parent: str, name: str | None = None, service: str = ""
    ) -> Process:
        """Make an actor after `check`; its name is its own before it can run. `parent` is "" for the runtime itself."""
        made = self._application.processes[entry]
        pid = self.make_pid(host)
        worker = self._start_worker(host, pid, (made.id, made.source, made.method), arguments)
        process = Process(pid, Kind.ACTOR, made.id, worker.number, parent=parent, service=service)
        self._population.processes[pid] = process
        self._actors[host] += 1
        if name is not None:
            self._names.give(name, process, parent)
        return process

    def spawn(self, parent: Process, request: m.Spawn | m.SpawnNamed) -> None:
        """Make an actor with the relations and the name asked for (S4, S5)."""
        name = check_name(request.name) if isinstance(request, m.SpawnNamed) else None
        self.check(request.entry, request.host, name)
        if request.link:
            self._population.check_room(parent.links, "links")
        if request.monitor:
            self._population.check_room(parent.monitoring, "monitors")
            self._population.check_new_ref(parent.monitoring, request.request)
        child = self.create(request.entry, request.host, request.arguments, parent=parent.pid, name=name)
        if parent.spawned is not None:
            parent.spawned[child.pid] = None
        if request.link:
            self._population.add_link(parent, child)
        if request.monitor:
            self._population.add_monitor(parent, request.request, child)
        self._population.reply(parent, request.request, child.pid)

    def actor_removed(self, worker: Worker) -> None:
        """An actor's worker is dead: its host has room again."""
        self._actors[worker.host] -= 1

    def actors(self) -> int:
        """How many actors live."""
        return sum(self._actors.values())

    def check_invariants(self) -> None:
        """Raise AssertionError if the counts are wrong."""
        for host, count in self._actors.items():
            workers = self._population.workers.values()
            actors = sum(worker.host == host and not worker.is_function for worker in workers)
            require(count == actors, "the count of a host's actors is right")
