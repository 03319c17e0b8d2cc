"""What the supervisor asks of the machine: descriptors, and its name."""

from __future__ import annotations

import resource
import socket


def raise_descriptor_limit() -> int:
    """Raise the soft limit on descriptors to the hard one; return what it was, which is what workers get."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def node_name() -> str:
    """This machine's name, as it stands in PIDs."""
    name = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "_.-") else "-" for letter in socket.gethostname()
    )
    return name[:64] or "localhost"
