"""The limits that the kernel keeps for this process: open files, and CPU time (`limit:cpu`).

CPU time is limited in whole seconds. Over the soft limit comes SIGXCPU, which ends a process that does not handle it, and over
the hard one SIGKILL. Only a privileged process may raise its hard limit again: so a function worker, whose invocations each
have the whole time, sets the soft one alone.
"""

from __future__ import annotations

import math
import resource
import time

from ...kernel.wire.configuration import CPU_MARGIN, cpu_allowance

_CPUCLOCK_PROF = -8
"""The clock that RLIMIT_CPU goes by: `MAKE_PROCESS_CPUCLOCK(0, CPUCLOCK_PROF)` of linux/posix-timers_types.h. It counts ticks,
and on a busy machine differs by a quarter from CLOCK_PROCESS_CPUTIME_ID, either way."""


def limit_open_files(count: int | None) -> None:
    """Allow so many descriptors, or as many as may be allowed."""
    if count is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (_capped(count, hard), hard))


def limit_cpu(seconds: float | None, used: int) -> None:
    """Allow this process so much CPU time for all of its life, less the `used` milliseconds of its life before an upgrade."""
    if seconds is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        soft = cpu_allowance(seconds, used)
        resource.setrlimit(resource.RLIMIT_CPU, (_capped(soft, hard), _capped(soft + CPU_MARGIN, hard)))


def cpu_used() -> int:
    """The milliseconds of CPU time that this OS process has used."""
    return round(time.clock_gettime(_CPUCLOCK_PROF) * 1000)


def allow_cpu(seconds: float | None) -> None:
    """Allow this process so much CPU time beyond what it has used: an invocation begins."""
    if seconds is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        soft = math.ceil(time.clock_gettime(_CPUCLOCK_PROF) + seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (_capped(soft, hard), hard))


def unlimit_cpu(seconds: float | None) -> None:
    """The invocation has ended: waiting for the next one takes a little time too, which is nobody's."""
    if seconds is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))


def _capped(value: int, hard: int) -> int:
    return value if hard == resource.RLIM_INFINITY else min(value, hard)
