"""The boot: what happens before there is a supervisor, and in which order.

The guardian is this process (S40), the supervisor its child; what must be done before the fork, and what only after it, is decided
by who has to have it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import sys
from collections.abc import Sequence

from ..wire import journal, log_writer, logs
from ..wire.configuration import Application
from ..wire.pid import remember
from . import control
from .children import become_subreaper
from .confinement import Confinement
from .errors import StartError
from .guardian import stand_guard
from .machine import raise_descriptor_limit
from .supervisor import Supervisor
from .systemd import environment
from .systemd.activation import Listening
from .systemd.manager import Contact
from .systemd.notify import Relay
from .temporary import make_base, remove_base

logger = logging.getLogger("wsrelay")

PIDS = 256
"""PIDs whose parts are remembered: we look at one when its process begins, and when it ends."""


def serve(
    application: Application,
    paths: Sequence[str],
    *,
    log_level: str = "info",
    log_format: str = "text",
    run_directory: str | None = None,
) -> int:
    """Run until SIGINT or SIGTERM, or until the runtime fails. Returns the exit code: in the guardian, which this process
    becomes, when nothing is left (S40); and in its child, the supervisor. `paths` is what a reload reads."""
    try:
        log_format = logs.resolve(log_format, os.environ)
    except OSError as problem:
        print(f"error: --log-format journal: {problem}", file=sys.stderr)  # noqa: T201
        return 1
    logs.setup(log_format, log_level)
    os.environ[logs.LEVEL_VARIABLE] = log_level  # for the gateway and the workers, which write to the same place
    os.environ[logs.FORMAT_VARIABLE] = log_format
    try:
        passed = environment.take(os.environ, os.getpid())
        relay = Relay(passed.notify) if passed.notify else None
        temporary = make_base(application.hosts.values())
    except (StartError, OSError) as problem:
        _log_each(problem)
        return 1
    directory = control.run_directory(run_directory, os.environ)
    place = control.place(directory, paths, os.getpid())
    gc.freeze()  # the two share what is there: the collector, and at the end the exit, would go through it and copy it
    guarded = stand_guard(relay)
    if isinstance(guarded, int):
        remove_base(temporary)  # whatever became of the supervisor
        control.remove(place)
        return guarded
    log_writer.start()
    journal.set_role("supervisor")
    remember(PIDS)
    faulthandler.enable()  # SIGABRT comes from the service manager's watchdog
    open_files = raise_descriptor_limit()
    become_subreaper()
    loop = asyncio.new_event_loop()
    try:
        listening = Listening(passed.descriptors, application.gateway.servers)
        contact = Contact(listening, None if relay is None else relay.for_supervisor(), passed.watchdog)
        confinement = Confinement(application, temporary)
        supervisor = Supervisor(application, loop, guarded, contact, confinement, paths, open_files=open_files)
        supervisor.listen_for_commands(place, required=run_directory is not None)
        return supervisor.run()
    except StartError as problem:
        _log_each(problem)
        return 1
    finally:
        loop.close()


def _log_each(problem: Exception) -> None:
    """An entry for each line: each has a place of its own."""
    for line in str(problem).splitlines():
        logger.error("%s", line)
