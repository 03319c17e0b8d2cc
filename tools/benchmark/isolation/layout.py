"""On which processors everything runs while others are disturbed: as the scheduler likes, or what disturbs apart from the rest.

Apart is what docs/operations.md, "Keeping noisy hosts apart", describes: the supervisor and the hosts of what disturbs have the last
processor, everything else has the others, the load generator too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..peers.process import Server, running_wsrelay

APPLICATION = Path(__file__).parent / "application"
NOISY = frozenset({"crashing", "limited", "stopped"})
"""The hosts of what disturbs."""


@dataclass(frozen=True)
class Apart:
    """Who has which processors."""

    kept: tuple[int, ...]
    noisy: tuple[int, ...]

    @contextlib.contextmanager
    def running(self) -> Iterator[Server]:
        """The runtime; what the block starts, as clients, runs on those that are kept."""
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(separated(self))
            with bound_to(self.noisy):
                server = stack.enter_context(running_wsrelay(folder))
            stack.enter_context(bound_to(self.kept))
            yield server


def apart() -> Apart | None:
    """The layout on this machine; None if there is only one processor."""
    processors = sorted(os.sched_getaffinity(0))
    return Apart(tuple(processors[:-1]), tuple(processors[-1:])) if len(processors) > 1 else None


@contextlib.contextmanager
def separated(layout: Apart) -> Iterator[Path]:
    """A copy of the application whose gateway and hosts say where they run."""
    with tempfile.TemporaryDirectory(prefix="wsrelay-bench-") as folder:
        copy = Path(folder) / "application"
        shutil.copytree(APPLICATION, copy, ignore=shutil.ignore_patterns("__pycache__"))
        index = copy / "_index.yaml"
        document = yaml.safe_load(index.read_text())
        for entry in document["entries"]:
            if entry["kind"] in ("http.service", "process.host"):
                entry["cpu_affinity"] = list(layout.noisy if entry["name"] in NOISY else layout.kept)
        index.write_text(yaml.safe_dump(document))
        yield copy


@contextlib.contextmanager
def bound_to(processors: Collection[int]) -> Iterator[None]:
    """This thread, and what it starts, on these processors."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
