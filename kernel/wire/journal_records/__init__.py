"""The records of a journal: what each process of the runtime, and a test, notes for the checker of the invariants.

Owns the records and their names, one module for each that writes: `journal` writes them, `wsrelay.tools.faults.journal` reads and
merges them. A record holds numbers, sizes, PIDs, names, topics and kinds of reasons; never a payload, a query string or a
token. Times are not in the records: every line of a journal has one.
"""

# ruff: noqa: F403, F405 — this is the index of the records: it exports all of them

from __future__ import annotations

from typing import Final, NamedTuple

from .gateway import *
from .supervisor import *
from .test import *
from .worker import *


class Opened(NamedTuple):
    """The first record of every file."""

    role: str
    """`supervisor`, `gateway`, `host`, `worker`, or what a test calls itself."""
    os_pid: int


RECORDS: Final[tuple[type, ...]] = (Opened, *SUPERVISOR_RECORDS, *GATEWAY_RECORDS, *WORKER_RECORDS, *TEST_RECORDS)
"""Every record there is."""

BY_NAME: Final[dict[str, type]] = {record.__name__: record for record in RECORDS}
