"""cgroup v2: a group for each worker whose host wants one, below the group that was delegated to this service.

Everything is a file below one folder, which is an argument, so that a plain folder does for a test. Decides nothing: what is
written into a worker's group is `core/enforcement`'s. cgroups(7), Documentation/admin-guide/cgroup-v2.rst.

A group that has controllers for its children may hold no process itself. So the processes that are in the delegated group, the
guardian and the supervisor, are first moved to one of its own; what they start is born there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from pathlib import Path

from .errors import StartError

ROOT = Path("/sys/fs/cgroup")
WANTED = ("memory", "pids", "cpu")
_MAIN = "main"
"""The group of everybody who is not a limited worker."""
_PREFIX = "worker-"


def find_delegated(own: str, ours: Collection[int], root: Path = ROOT) -> tuple[Path | None, frozenset[str], str]:
    """Return this process's group, if it may be divided, its controllers of those wanted, and else why not.

    `own` is the content of /proc/self/cgroup, `ours` the os_pids of the runtime's processes. A group with anybody else in it, as of
    a login, was not delegated to us, though root may write there.
    """
    path = next((line.removeprefix("0::") for line in own.splitlines() if line.startswith("0::/")), None)
    if path is None or not (root / "cgroup.controllers").is_file():
        return None, frozenset(), f"there is no cgroup v2 at {root}"
    folder = root / path.lstrip("/")
    try:
        controllers = frozenset((folder / "cgroup.controllers").read_text().split()) & frozenset(WANTED)
        members = {int(os_pid) for os_pid in (folder / "cgroup.procs").read_text().split()}
    except OSError as problem:
        return None, frozenset(), f"{folder}: {problem.strerror}"
    for needed in (folder, folder / "cgroup.procs", folder / "cgroup.subtree_control"):
        if not os.access(needed, os.W_OK):
            return None, frozenset(), f"{needed} is not writable for this process"
    if not members <= set(ours):
        return None, frozenset(), f"{folder} is shared with other processes"
    if not controllers:
        return None, frozenset(), f"{folder} has none of the controllers {', '.join(WANTED)}"
    return folder, controllers, ""


class Cgroups:
    """The groups of workers below `folder`."""

    def __init__(
        self,
        folder: Path,
        controllers: Collection[str],
        *,
        make: Callable[[Path], None] = Path.mkdir,
        remove: Callable[[Path], None] = Path.rmdir,
    ) -> None:
        """`make` and `remove` a folder: the kernel fills a new group with files, and lets one with files be removed."""
        self._folder = folder
        self._make = make
        self._remove = remove
        self._controllers = sorted(controllers)
        self._members: set[int] = set()
        self._retired: set[int] = set()
        """Whose worker is dead, and whose descendants may not all be."""

    def prepare(self) -> None:
        """Make the delegated group ready to be divided. Raises StartError."""
        try:
            self._remove_old()
            main = self._folder / _MAIN
            if not main.exists():
                self._make(main)
            for os_pid in (self._folder / "cgroup.procs").read_text().split():
                _write(main / "cgroup.procs", os_pid)
            _write(self._folder / "cgroup.subtree_control", " ".join(f"+{name}" for name in self._controllers))
        except OSError as problem:
            raise StartError(f"the cgroup {self._folder} cannot be divided: {problem}") from problem

    def _remove_old(self) -> None:
        """Groups that a supervisor has left behind: nobody is in them any more."""
        for old in self._folder.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                self._remove_whole(old)

    def _remove_whole(self, group: Path) -> None:
        """Remove a group, and first the groups that a worker of the service's own user has made in it. Raises OSError."""
        found = [group]
        for each in found:
            with os.scandir(each) as entries:
                found += [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
        for each in reversed(found):
            self._remove(each)

    def put(self, number: int, os_pid: int, settings: Collection[tuple[str, str]]) -> None:
        """Make the group of a worker, if it has none yet, and move it there. Raises OSError."""
        folder = self._of(number)
        if number not in self._members:  # an upgraded worker has its group already
            self._make(folder)
            self._members.add(number)
        for name, value in settings:
            try:
                _write(folder / name, value)
            except FileNotFoundError:
                if name != "memory.swap.max":  # absent where the kernel does not account for swap
                    raise
        _write(folder / "cgroup.procs", f"{os_pid}")

    def was_out_of_memory(self, number: int) -> bool:
        """Whether the kernel has killed for the group's memory. The count may rise by more than one for one victim."""
        return self._count(number, "memory.events", "oom_kill") > 0

    def refused_forks(self, number: int) -> bool:
        """Whether the group was at its limit of processes and wanted one more.

        Before Linux 6.11 a fork is counted here too that a group above has refused, as that of the unit (TasksMax=) does. So the
        group must have been full itself; before Linux 6.1 that cannot be known.
        """
        return self._count(number, "pids.events", "max") > 0 and self._was_full(number)

    def kill(self, number: int) -> None:
        """SIGKILL to all in the group at once: none can fork away."""
        if number in self._members:
            with contextlib.suppress(OSError):  # before Linux 5.14: then they are found one by one
                _write(self._of(number) / "cgroup.kill", "1")

    def retire(self, number: int) -> None:
        """A worker is dead: kill who is left in its group, and remove that, now or with `tidy`."""
        if number in self._members:
            self.kill(number)
            self._members.discard(number)
            self._retired.add(number)
            self.tidy()

    def tidy(self) -> bool:
        """Remove the groups of the dead that are empty. Returns whether one is left: who is killed takes a moment to be gone, with much
        memory a long one."""
        for each in list(self._retired):
            with contextlib.suppress(OSError):
                self._remove_whole(self._of(each))
            if not self._of(each).exists():
                self._retired.discard(each)
        return bool(self._retired)

    def _of(self, number: int) -> Path:
        return self._folder / f"{_PREFIX}{number}"

    def _was_full(self, number: int) -> bool:
        try:
            peak, limit = (int((self._of(number) / name).read_text()) for name in ("pids.peak", "pids.max"))
        except (OSError, ValueError):
            return True
        return peak >= limit

    def _count(self, number: int, name: str, what: str) -> int:
        with contextlib.suppress(OSError):
            for line in (self._of(number) / name).read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == what:
                    return int(value)
        return 0


def own_cgroup() -> str:
    """The content of /proc/self/cgroup, empty if there is none."""
    with contextlib.suppress(OSError):
        return Path("/proc/self/cgroup").read_text()
    return ""


def _write(path: Path, text: str) -> None:
    """Write to a file of the kernel's, which is there: it must not be made."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
