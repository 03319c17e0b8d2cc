"""One line of a journal, as the reader gives it. Knows nothing of files."""

from __future__ import annotations

import re
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """A record, and where it comes from."""

    time: float
    """Seconds, CLOCK_MONOTONIC."""
    role: str
    os_pid: int
    sequence: int
    """Counts up from 1 within the process's file."""
    record: tuple[Any, ...]

    def __str__(self) -> str:
        fields = ", ".join(
            f"{name}={_short(value)}" for name, value in zip(_fields(self.record), self.record, strict=True)
        )
        return f"{self.time:.6f} {self.role}/{self.os_pid} {type(self.record).__name__}({fields})"


def _fields(record: tuple[Any, ...]) -> tuple[str, ...]:
    names: tuple[str, ...] = getattr(record, "_fields", ())
    return names


_EPOCH = re.compile(r"\{[^|}]*\|[0-9a-f]{16}\.([^}]*)\}")


def _short(value: object) -> str:
    """PIDs without node, host and epoch: `s.12`, `g1.3`."""
    return _EPOCH.sub(r"\1", repr(value))
