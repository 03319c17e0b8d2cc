"""The kit's runtime, for tests that leave actors behind and look for what they need themselves.

with running_runtime(tmp_path, entries, {"app.py": "def connect(): …"}) as runtime:
    connect(runtime.ws_url("/ws/echo"))
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from wsrelay.tools.faults import running as kit
from wsrelay.tools.faults.applications import (
    GATEWAY,
    PROCESSES,
    ROUTER,
    Entries,
    actor,
    application,
    endpoint,
    write_application,
)
from wsrelay.tools.faults.runtime import MARK, START_TIMEOUT, STOP_TIMEOUT, Runtime

__all__ = [
    "GATEWAY",
    "MARK",
    "PROCESSES",
    "ROUTER",
    "START_TIMEOUT",
    "STOP_TIMEOUT",
    "Entries",
    "Runtime",
    "actor",
    "application",
    "endpoint",
    "running_example",
    "running_runtime",
    "write_application",
]


@contextlib.contextmanager
def running_runtime(
    tmp_path: Path,
    entries: Entries,
    sources: Mapping[str, str],
    *,
    services: int = 1,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Runtime]:
    """Run an application. At the end: SIGTERM, exit status 0, and nothing left. A test may have stopped it before."""
    # Python takes the bytecode that it has kept for a source as new as long as its size and the second of its time are the same:
    # too coarse for a test that changes a source.
    variables = {"PYTHONDONTWRITEBYTECODE": "1", **(environment or {})}
    with kit.running_runtime(
        entries, sources, folder=tmp_path, services=services, environment=variables, strict=False
    ) as runtime:
        yield runtime


@contextlib.contextmanager
def running_example(tmp_path: Path, example: Path) -> Iterator[Runtime]:
    """Run a copy of one of the examples, on a free port."""
    with kit.running_runtime(example, folder=tmp_path, strict=False) as runtime:
        yield runtime
