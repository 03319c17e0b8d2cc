"""The test's side of `inside.point`: which fault is to be done where, and at which time that the point is reached.

Owns the folder that handlers look into: a file `NAME@NUMBER` for each time that the point is reached, empty if nothing is to
happen then. Who removes the file may act on it, so that each is done exactly once, however many processes come.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from .kinds import Fault, Where
from .waiting import TIMEOUT, wait_until

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


class PointNeverReached(UserWarning):
    """A point was armed, and no handler ever came to it: is its name right?"""


class Armed:
    """A fault that was put at a point, and what has become of it. With no fault, nothing ever does."""

    def __init__(self, points: Points, name: str, fault: Fault | None, tokens: Sequence[Path]) -> None:
        """`tokens` are the files, in order; the fault is in the last."""
        self.name = name
        self.fault = fault
        self._points = points
        self._tokens = tokens

    @property
    def reached(self) -> int:
        """How often the point was reached while this was armed, the times that were to be skipped too."""
        return sum(self._points.is_claimed(token) for token in self._tokens)

    @property
    def performed(self) -> int:
        """How often the fault was performed: 1 or 0. It stays true when nothing is armed any more."""
        return sum(self._points.is_claimed(token) for token in self._tokens[-1:])

    def wait_performed(self, timeout: float = TIMEOUT) -> None:
        """Wait until a handler performs the fault. Raises AssertionError after `timeout` seconds."""
        wait_until(lambda: self.performed or self.fault is None, timeout, lambda: f"{self}")

    def __str__(self) -> str:
        times = len(self._tokens)
        return f"the point {self.name!r} to perform {self.fault!r}: it was reached {self.reached} of {times} times"


class Points:
    """The points of one runtime."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made; it is what WSRELAY_FAULTS says."""
        self.folder = folder
        self._last = 0
        self._withdrawn: set[Path] = set()
        """Files that nobody came for: they are gone, and were not claimed."""
        self._everything: list[Armed] = []
        folder.mkdir()

    def arm(self, name: str, fault: Fault, *, skip: int = 0) -> Armed:
        """Have the fault done when a handler reaches the point next, or when it has passed it `skip` times before.

        Raises ValueError for a name that `point` cannot have, or a fault that cannot be done inside a handler.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"a point's name is up to 100 letters, digits, and '_', '.' or '-', not {name!r}")
        if Where.INSIDE not in fault.places:
            raise ValueError(f"{fault!r} cannot be put at a point: it is not done inside a handler")
        tokens = []
        for text in [""] * skip + [repr(fault)]:
            self._last += 1
            token = self.folder / f"{name}@{self._last:08d}"
            new = token.with_name(f".new-{token.name}")
            new.write_text(text)
            new.chmod(0o644)  # whatever the umask is: its folder says who may come
            new.rename(token)  # whoever sees it sees all of it
            tokens.append(token)
        armed = Armed(self, name, fault, tokens)
        self._everything.append(armed)
        return armed

    def nothing(self, name: str) -> Armed:
        """What is armed where no fault was drawn."""
        return Armed(self, name, None, ())

    def armed(self) -> list[str]:
        """The points that have not been reached as often as was armed, in order, each once for each time."""
        return [token.name.rpartition("@")[0] for token in sorted(self.folder.glob("[!.]*@*"))]

    def is_claimed(self, token: Path) -> bool:
        """Whether a handler has come for this file."""
        return token not in self._withdrawn and not token.exists()

    def disarm(self) -> None:
        """Forget all that is armed."""
        for token in self.folder.iterdir():
            try:
                token.unlink()
            except FileNotFoundError:  # a handler has just come for it
                continue
            self._withdrawn.add(token)

    def never_reached(self) -> list[str]:
        """The names that were armed, and that no handler ever came to while they were."""
        reached = {armed.name for armed in self._everything if armed.reached}
        return sorted({armed.name for armed in self._everything} - reached)

    def close(self) -> None:
        """Remove the folder. What has been performed is still known."""
        self.disarm()
        shutil.rmtree(self.folder)
