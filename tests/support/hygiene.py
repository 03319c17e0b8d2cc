"""What a test may not leave behind: the kit's."""

from __future__ import annotations

from wsrelay.tools.faults.hygiene import (
    GRACE,
    child_processes,
    nothing_left_behind,
    open_descriptors,
    tagged_processes,
    threads,
)

__all__ = ["GRACE", "child_processes", "nothing_left_behind", "open_descriptors", "tagged_processes", "threads"]
