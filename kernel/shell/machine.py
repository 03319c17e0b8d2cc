"""What the supervisor asks of the machine: descriptors, and its name."""

from __future__ import annotations

import errno
import os
import resource
import socket

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
