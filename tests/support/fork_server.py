"""Which OS process of a runtime under test is the fork server: the workers that it forked have its command line too."""

from __future__ import annotations

import contextlib
from pathlib import Path

from .runtime import Runtime

_START_TIME = 19
"""The field of proc(5), counted behind the name."""


def host_of(runtime: Runtime) -> int:
    """The os_pid of the only host: the eldest with its command line. Numbers start again when they are used up, so the start
    decides."""
    started: dict[int, int] = {}
    for os_pid, command in runtime.processes().items():
        if "workers.shell.host" in command:
            with contextlib.suppress(OSError):  # it has ended
                fields = Path(f"/proc/{os_pid}/stat").read_text().rpartition(")")[2].split()
                started[os_pid] = int(fields[_START_TIME])
    return min(started, key=lambda os_pid: (started[os_pid], os_pid))
