"""The test's side of `inside.point`: which fault is to be done where, and at which time that the point is reached.

Owns the folder that handlers look into: a file `NAME@NUMBER` for each time that the point is reached, empty if nothing is to
happen then. Who removes the file may act on it, so that each is done exactly once, however many processes come.
"""

from __future__ import annotations

import re
from pathlib import Path

from .kinds import Fault, Where

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


class Points:
    """The points of one runtime."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made; it is what WSRELAY_FAULTS says."""
        self.folder = folder
        self._last = 0
        folder.mkdir()

    def arm(self, name: str, fault: Fault, *, skip: int = 0) -> None:
        """Have the fault done when a handler reaches the point next, or when it has passed it `skip` times before.

        Raises ValueError for a name that `point` cannot have, or a fault that cannot be done inside a handler.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"a point's name is up to 100 letters, digits, and '_', '.' or '-', not {name!r}")
        if Where.INSIDE not in fault.places:
            raise ValueError(f"{fault!r} cannot be put at a point: it is not done inside a handler")
        for text in [""] * skip + [repr(fault)]:
            self._last += 1
            token = self.folder / f"{name}@{self._last:08d}"
            new = token.with_name(f".new-{token.name}")
            new.write_text(text)
            new.rename(token)  # whoever sees it sees all of it

    def armed(self) -> list[str]:
        """The points that have not been reached as often as was armed, in order, each once for each time."""
        return [token.name.rpartition("@")[0] for token in sorted(self.folder.glob("[!.]*@*"))]

    def disarm(self) -> None:
        """Forget all that is armed."""
        for token in self.folder.iterdir():
            token.unlink(missing_ok=True)
