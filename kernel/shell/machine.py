"""What the supervisor asks of the machine: descriptors, its name, and what it offers for the limits of hosts."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import grp
import logging
import os
import pwd
import resource
import socket
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping

from ..core.enforcement import Machine, User
from ..wire.configuration import HostConfiguration
from ..wire.quantities import MAX_PROCESSOR, processors_text

logger = logging.getLogger("wsrelay")

_CAPABILITIES = {"CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_SYS_RESOURCE": 24}
_CEILINGS = {"open_files": resource.RLIMIT_NOFILE, "cpu": resource.RLIMIT_CPU, "core": resource.RLIMIT_CORE}
_SYS_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_CREATE_RULESET_VERSION = 1

SPARE_DESCRIPTORS = 32
"""Descriptors that no new worker gets: deaths, sweeps and restarts must always be possible."""


def raise_descriptor_limit() -> int:
    """Raise the soft limit on descriptors to the hard one; return what it was, which is what workers get."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def check_spare_descriptors(highest: int) -> None:
    """Raise OSError if `highest`, a number that is about to be used, leaves too few: the lowest free one is what one gets."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if highest > limit - SPARE_DESCRIPTORS:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def node_name() -> str:
    """This machine's name, as it stands in PIDs."""
    name = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "_.-") else "-" for letter in socket.gethostname()
    )
    return name[:64] or "localhost"


def look_at_machine(hosts: Collection[HostConfiguration], controllers: frozenset[str], why_none: str) -> Machine:
    """Return what there is for these hosts. `controllers` of cgroups are delegated; `why_none`, if there are none."""
    ceilings = {name: resource.getrlimit(number)[1] for name, number in _CEILINGS.items()}
    return Machine(
        uid=os.geteuid(),
        gid=os.getegid(),
        capabilities=_capabilities(),
        controllers=controllers,
        no_controllers=why_none,
        landlock=landlock_abi(),
        oom_score=_own_oom_score(),
        processors=allowed_processors(),
        ceilings={name: hard for name, hard in ceilings.items() if hard != resource.RLIM_INFINITY},
        users=dict(_users(host.user for host in hosts)),
        groups=dict(_groups(hosts)),
        missing=frozenset(path for path in _paths(hosts) if not os.path.exists(path)),
    )


def allowed_processors() -> frozenset[int]:
    """Return the processors that the cpuset of this process allows.

    The affinity that it was started with may be narrower, and /proc shows only that. But whoever asks for all is given all that are
    allowed: a thread that ends at once, because the kernel keeps in mind what was asked for, also when the cpuset grows. Where no
    thread is to be had it is what this one runs on: then nothing can be started that could run elsewhere.
    """
    found = os.sched_getaffinity(0)

    def ask() -> None:
        nonlocal found
        with contextlib.suppress(OSError):  # a filter of system calls: then nobody else can have more either
            os.sched_setaffinity(0, range(MAX_PROCESSOR + 1))
            found = os.sched_getaffinity(0)

    thread = threading.Thread(target=ask, name="processors")
    with contextlib.suppress(RuntimeError):  # no thread is to be had
        thread.start()
        thread.join()
    return frozenset(found)


def warn_if_elsewhere(who: str, os_pid: int, wanted: Collection[int] | None, extra: Mapping[str, object]) -> None:
    """Log if a process does not run where it should: a processor was taken away since it was looked for, or a module that was
    imported has an idea of its own. That is no reason to be without the process."""
    with contextlib.suppress(ProcessLookupError):
        if wanted is not None and (real := os.sched_getaffinity(os_pid)) != set(wanted):
            logger.warning(
                "%s: runs on the processors %s, and not on %s as its cpu_affinity says",
                who,
                processors_text(real),
                processors_text(wanted),
                extra=extra,
            )


def landlock_abi() -> int:
    """Return the version of Landlock's interface, 0 if there is none."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    version = libc.syscall(
        ctypes.c_long(_SYS_LANDLOCK_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint32(_LANDLOCK_CREATE_RULESET_VERSION)
    )  # fmt: skip
    return max(0, int(version))


def _capabilities() -> frozenset[str]:
    with contextlib.suppress(OSError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("CapEff:"):
                effective = int(line.split()[1], 16)
                return frozenset(name for name, bit in _CAPABILITIES.items() if effective >> bit & 1)
    return frozenset()


def _own_oom_score() -> int:
    with open("/proc/self/oom_score_adj") as file:
        return int(file.read())


def _users(names: Iterable[str | None]) -> Iterator[tuple[str, User]]:
    for name in names:
        if name is not None:
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                groups = tuple(os.getgrouplist(name, entry.pw_gid))
                yield name, User(entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)


def _groups(hosts: Iterable[HostConfiguration]) -> Iterator[tuple[str, int]]:
    for host in hosts:
        for name in (*([host.group] if host.group else []), *(host.groups or ())):
            with contextlib.suppress(KeyError):
                yield name, grp.getgrnam(name).gr_gid


def _paths(hosts: Iterable[HostConfiguration]) -> Iterator[str]:
    for host in hosts:
        yield from host.sandbox.read or ()
        yield from host.sandbox.write or ()
