"""Monitors and links: what a process may ask about the deaths of others (S19 to S28).

Owns who may watch and who may be linked, and what is said of one that has ended already. The relations themselves are the
population's, because a death takes them away; what a death makes of them is decided there.
"""

from __future__ import annotations

from ..wire import messages as m
from ..wire.errors import NoProc
from ..wire.pid import Pid
from ..wire.reason import noproc
from .effects import SendToWorker
from .population import Population
from .processes import Process


class Relations:
    """What processes ask about their monitors and links."""

    def __init__(self, population: Population) -> None:
        self._population = population

    # --- monitors (S19 to S22) ----------------------------------------------------------------------------------------

    def monitor(self, watcher: Process, request: m.Monitor) -> None:
        """Watch a process; EXIT with `noproc` follows if it has ended. Raises Invalid, LimitExceeded or ProtocolViolation."""
        pid = Pid.parse(request.pid)
        self._population.check_room(watcher.monitoring, "monitors")
        self._population.check_new_ref(watcher.monitoring, request.request)
        target = self._population.processes.get(pid)
        if target is not None:
            self._population.add_monitor(watcher, request.request, target)
        self._population.reply(watcher, request.request)
        if target is None:
            mark = self._population.late_mark(watcher, pid)
            self._population.effects.append(SendToWorker(watcher.worker, m.Exit(request.request, pid, noproc(), mark)))

    def unmonitor(self, watcher: Process, request: m.Unmonitor) -> None:
        """End one monitor; nothing happens if it is gone (S21)."""
        self._population.remove_monitor(watcher, request.ref)
        self._population.reply(watcher, request.request)

    def unmonitor_all(self, watcher: Process, request: m.UnmonitorAll) -> None:
        """End all monitors of one process."""
        for ref in [ref for ref, pid in watcher.monitoring.items() if pid == request.pid]:
            self._population.remove_monitor(watcher, ref)
        self._population.reply(watcher, request.request)

    # --- links (S23 to S28) -------------------------------------------------------------------------------------------

    def link(self, caller: Process, request: m.Link) -> None:
        """Link the caller to a process. If that has ended, who traps links is told by LINK_DOWN with `noproc`, and for others
        it raises NoProc. Raises Invalid or LimitExceeded."""
        pid = Pid.parse(request.pid)
        self._population.check_room(caller.links, "links")
        peer = self._population.processes.get(pid)
        if peer is not None:
            self._population.add_link(caller, peer)
        elif not caller.trap_links:
            raise NoProc(f"{pid} has ended or never was: nothing to link to (set trap_links to get LINK_DOWN instead)")
        self._population.reply(caller, request.request)
        if peer is None:
            mark = self._population.late_mark(caller, pid)
            self._population.effects.append(SendToWorker(caller.worker, m.LinkDown(pid, noproc(), mark)))

    def unlink(self, caller: Process, request: m.Unlink) -> None:
        """End a link; nothing happens if there is none (S27)."""
        self._population.remove_link(caller, request.pid)
        self._population.reply(caller, request.request)

    def set_options(self, process: Process, request: m.SetOptions) -> None:
        """Whether the deaths of linked processes come as LINK_DOWN from now on."""
        process.trap_links = request.trap_links
        self._population.reply(process, request.request)
