"""What systemd puts into the environment of a service's main process: taken once, and removed, so that no worker gets it.

Sources: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3). Knows nothing of what is done with it.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from dataclasses import dataclass

from ..errors import StartError

FIRST_DESCRIPTOR = 3
"""Passed descriptors are numbered from here on (SD_LISTEN_FDS_START)."""
_UNNAMED = "unknown"
"""The name of a passed descriptor that was given none, as in sd_listen_fds_with_names(3)."""
_VARIABLES = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDNAMES",
)


@dataclass(frozen=True, slots=True)
class Passed:
    """What the service manager handed over."""

    notify: str = ""
    """The address of its notification socket; empty if there is none."""
    watchdog: float = 0.0
    """Seconds within which it wants a sign of life; 0 for none."""
    descriptors: tuple[tuple[str, int], ...] = ()
    """Name and number of each descriptor, in its order; they are close-on-exec."""


def take(environment: MutableMapping[str, str], os_pid: int) -> Passed:
    """Remove the variables, and return what they say to the process `os_pid`. Raises StartError if they make no sense."""
    found = {name: environment.pop(name, "") for name in _VARIABLES}
    watchdog = 0.0
    if found["WATCHDOG_USEC"] and found["WATCHDOG_PID"] in ("", str(os_pid)):
        watchdog = _number("WATCHDOG_USEC", found["WATCHDOG_USEC"]) / 1e6
    if not found["LISTEN_FDS"] or found["LISTEN_PID"] != str(os_pid):
        return Passed(found["NOTIFY_SOCKET"], watchdog)
    count = _number("LISTEN_FDS", found["LISTEN_FDS"])
    names = found["LISTEN_FDNAMES"].split(":") if found["LISTEN_FDNAMES"] else [_UNNAMED] * count
    if len(names) != count:
        raise StartError(f"LISTEN_FDNAMES has {len(names)} names for the {count} descriptors of LISTEN_FDS")
    for number in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + count):
        try:
            os.set_inheritable(number, False)
        except OSError as problem:
            raise StartError(f"LISTEN_FDS={count}, but descriptor {number} is not open: {problem}") from problem
    return Passed(
        found["NOTIFY_SOCKET"],
        watchdog,
        tuple(zip(names, range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + count), strict=True)),
    )


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise StartError(f"{name}={text} is not a whole number")
    return int(text)
