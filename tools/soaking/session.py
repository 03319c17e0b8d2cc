"""A runtime that performs one random program after the other, with its journals, its failpoints and its baseline.

Owns what lasts longer than a program. A program that shows a violation ends it, and so does the death of its supervisor.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
from wsrelay.tools.faults import running_runtime
from wsrelay.tools.faults.checker import Violation
from wsrelay.tools.faults.entry import Entry
from wsrelay.tools.faults.failpoints import Controller
from wsrelay.tools.faults.journal import VARIABLE, Book, Reader
from wsrelay.tools.faults.runtime import Runtime

from .picture import Picture, carried, parent_of
from .program import FAILPOINTS, Program

APPLICATION: Final = Path(__file__).parent / "application"
LATENCY_BOUND: Final = 2.0
"""Seconds that a bystander waits for an answer at most, whatever goes on beside it (invariant 11). Some twenty times what is seen
on a busy machine: what a hang costs, a gateway's or a supervisor's, is seconds more."""
MEMORY_ROOM: Final = 16 << 20
"""Bytes that the supervisor and the gateway may each have more than after the first program, whatever goes on (invariant 11). For
the gateway that is eight clients at their bounds at once: `inbound` 1 MiB, `outbound` 256 KiB and the message that was over it,
and the rest is the allocator's; for the supervisor its caches, and mail, of which a program sends little."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Fault:
    """One that was injected."""

    name: str
    seconds: float | None = None
    """To what is to be seen of it; None if nothing is."""
    pid: str = ""
    """Of the process that was hit, if it was one."""


@dataclass
class Outcome:
    """Of one program."""

    program: Program
    faults: list[Fault] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """What is wrong beside the fifteen invariants."""
    story: str = ""
    slow: list[str] = field(default_factory=list)
    """The story of each process that took long to show a fault."""
    disturbed: dict[str, float] = field(default_factory=dict)
    """The worst that was measured while the faults flew: of memory in bytes, and of a bystander's answers in seconds."""
    samples: dict[str, float] = field(default_factory=dict)
    """Of memory, descriptors and tables, when everything has ended."""

    @property
    def failed(self) -> bool:
        """Whether a promise was broken."""
        return bool(self.violations or self.complaints)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.violations), *self.complaints, self.story])


class Session:
    """One runtime. Use `session`."""

    def __init__(self, runtime: Runtime, folder: Path, controller: Controller, book: Book) -> None:
        self.runtime = runtime
        self.controller = controller
        self.book = book
        self.picture = Picture()
        self.window: list[Entry] = []
        """What the check of the program in hand has to know."""
        self.programs = 0
        self.ended = False
        self._reader = Reader(folder)
        book.bound("latency", "bystander", LATENCY_BOUND)
        self.peaks: dict[str, float] = {}
        """The most memory of each part while the program in hand was performed."""

    def look(self) -> list[Entry]:
        """Read what is new."""
        new = self._reader.read_new()
        self.window += new
        self.picture.take(new)
        return new

    def signal(self, os_pid: int, number: int = signal.SIGKILL) -> bool:
        """Send a signal to a child of the supervisor. Returns whether there was one."""
        try:
            pidfd = os.pidfd_open(os_pid)
        except OSError:
            return False
        try:
            if parent_of(os_pid) != self.picture.supervisor:
                return False
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(pidfd)
        return True

    def compare(self) -> None:
        """Everything has ended: is it as it was after the first program? Raises AssertionError that says what is left.

        After the first, because a process opens its journal when it has something to write.
        """
        if self.programs == 1:
            self.runtime.remember_start()
            for part, os_pid in self._parts().items():
                self.book.bound("memory", part, memory_of(os_pid) + MEMORY_ROOM)
        else:
            self.runtime.check_as_found()

    def measure(self) -> dict[str, float]:
        """Memory, descriptors and sizes, of a runtime at rest."""
        found: dict[str, float] = {}
        parts = self._parts()
        for name, os_pid in [*parts.items(), *((f"host {n}", host) for n, host in enumerate(self.picture.hosts()))]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(os_pid)
                found[f"memory of the {name}"] = process.memory_info().rss
                found[f"descriptors of the {name}"] = process.num_fds()
        sizes = self.runtime.statistics()
        return found | {f"table: {name}": size for name, size in sizes.items() if name != "gateway"}

    def measure_memory(self) -> None:
        """Note what the supervisor and the gateway have."""
        for part, os_pid in self._parts().items():
            if size := memory_of(os_pid):
                self.peaks[part] = max(self.peaks.get(part, 0.0), size)
                self.book.sample("memory", part, "disturbed", size)

    def _parts(self) -> dict[str, int]:
        return {"supervisor": self.picture.supervisor, "gateway": self.picture.gateway}

    def settle_accounts(self) -> None:
        """A program is over and nothing was wrong: forget what the next one's check need not know."""
        self.look()
        self.window = carried(self.window)
        self.picture.forget()
        self.controller.forget()
        alive = {self.picture.supervisor, self.picture.gateway, os.getpid(), *self.picture.children}
        self._reader.remove(lambda role, os_pid: os_pid not in alive)


def memory_of(os_pid: int) -> float:
    """The resident bytes of a process; 0 if there is none."""
    try:
        return float(Path(f"/proc/{os_pid}/statm").read_bytes().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0.0


@contextlib.contextmanager
def session(application: Path = APPLICATION) -> Iterator[Session]:
    """Start a runtime with journals and failpoints; stop it at the end, whatever state it is in. `application` is the folder of
    what it runs."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="wsrelay-soak-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        journals = folder / "journals"
        journals.mkdir()
        controller = stack.enter_context(Controller(folder / "points"))
        book = stack.enter_context(Book(journals))
        environment = {VARIABLE: str(journals), **controller.environment(sorted(FAILPOINTS))}
        place = folder / "runtime"
        place.mkdir()
        runtime = stack.enter_context(running_runtime(application, folder=place, environment=environment, strict=False))
        made = Session(runtime, journals, controller, book)
        started = time.monotonic()
        while not made.picture.serving and time.monotonic() - started < 30.0:
            made.look()
        try:
            yield made
        finally:
            if made.ended:
                runtime.kill()
                shutil.rmtree(runtime.temporary, ignore_errors=True)
