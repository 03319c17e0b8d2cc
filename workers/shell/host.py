"""The fork server: a fresh, single-threaded process without an event loop that imports once and forks workers on request.

    python -m wsrelay.workers.shell.host CONTROL_FD SUPERVISORS_OS_PID

It holds no worker's channel: the one that comes with a `Fork` goes to the child and is closed here. The workers are children of
the supervisor, its siblings, so its end is not theirs.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from typing import NamedTuple, NoReturn

from ...kernel.wire import logs
from ...kernel.wire import messages as wire
from ...kernel.wire.channel import Channel
from ...kernel.wire.codec import encode
from ...kernel.wire.configuration import HostConfiguration, unpack
from ...kernel.wire.failpoints import failpoint
from ...kernel.wire.journal import set_role
from .. import http, process  # noqa: F401  # what every handler imports
from . import system, tracing
from .confinement import confine_host
from .fingerprint import fingerprint
from .preload import preload
from .rehearsal import rehearse
from .runtime import Runtime
from .worker import make_runtime, run_newborn

_NO_SIGNAL = int(socket.MSG_NOSIGNAL)


class _Prepared(NamedTuple):
    """What is there before the first fork."""

    configuration: HostConfiguration
    runtime: Runtime
    forker: system.Forker


class ForkServer:
    """One host, from its configuration on."""

    def __init__(self, end: socket.socket, supervisor: int) -> None:
        """`end` is its end of the channel to the supervisor, whose os_pid is `supervisor`."""
        self._end = end
        self._channel = Channel(end, wire.SUPERVISOR_TO_HOST, descriptors=True)
        self._supervisor = supervisor
        self._prepared: _Prepared | None = None

    def serve(self) -> NoReturn:
        """Do what the supervisor asks, until it is gone."""
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        while True:
            poll.poll()
            for record in self._channel.receive():
                if isinstance(record, wire.ConfigureHost):
                    self._configure(unpack(HostConfiguration, record.configuration))
                elif isinstance(record, wire.Fork):
                    self._fork(record.worker)
            if self._channel.ended or self._channel.violation is not None:
                os._exit(0)

    def _configure(self, configuration: HostConfiguration) -> None:
        try:
            confine_host(configuration, self._supervisor)
            forker = system.Forker()
        except OSError as error:
            self._answer(wire.HostFailed(str(error)[:1024]))
            os._exit(1)
        rehearse(forker)
        wanted = configuration.preload
        refused = preload((tracing.SOURCE,)) if wanted and configuration.traced else []
        before = set(sys.modules)  # tracing turned on or off is no new code
        refused += preload(configuration.sources) if wanted else []
        self._answer(wire.HostCode(fingerprint(configuration.sources, before)))
        self._prepared = _Prepared(configuration, make_runtime(configuration), forker)
        gc.collect()
        gc.freeze()  # the collector would touch, and so copy, every page that is shared with the workers
        self._answer(wire.HostReady(tuple((source, why[:1024]) for source, why in refused)))

    def _fork(self, worker: int) -> None:
        try:
            control = self._channel.take_descriptor()
        except OSError as error:
            self._answer(wire.ForkFailed(worker, str(error)))
            return
        prepared = self._prepared
        try:
            if prepared is None:
                raise OSError("the host is not configured")
            os_pid = prepared.forker.fork_sibling()
        except OSError as error:
            os.close(control)
            self._answer(wire.ForkFailed(worker, str(error)))
            return
        if os_pid == 0:
            self._end.detach()  # the descriptor is closed with all others; its number will be another's
            run_newborn(prepared.runtime, control, self._supervisor, prepared.configuration, worker)
        os.close(control)
        failpoint("spawn.forked")
        self._answer(wire.Forked(worker, os_pid))

    def _answer(self, record: tuple[object, ...]) -> None:
        unsent = encode(record)
        while unsent:
            try:
                unsent = unsent[self._end.send(unsent, _NO_SIGNAL) :]
            except BlockingIOError:
                select.select([], [self._end], [])
            except OSError:
                return  # the supervisor is gone: the channel's end says so too


def main(arguments: list[str]) -> NoReturn:
    """The command line: the control channel's descriptor, and the supervisor's os_pid."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides what Ctrl-C means
    end, supervisor = socket.socket(fileno=int(arguments[0])), int(arguments[1])
    end.set_inheritable(False)
    set_role("host")
    logs.setup_worker(os.environ)
    system.redirect_stdin()
    system.die_with_parent(supervisor)
    ForkServer(end, supervisor).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
