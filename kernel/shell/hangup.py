"""What a SIGHUP means: the terminal that we were started from is gone, or somebody asks for a reload.

The kernel takes the terminal away from a session before it tells it, so whether there is one still says which it was.
"""

from __future__ import annotations

import os


class Hangup:
    """Remembers whether there was a terminal at the start."""

    def __init__(self) -> None:
        self._had_terminal = _has_terminal()

    def terminal_is_gone(self) -> bool:
        """Whether there was a terminal, and is none any more."""
        return self._had_terminal and not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError:
        return False
    return True
