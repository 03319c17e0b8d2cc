"""What is wrong with a configuration, and where.

Owns `Place`, `Problem` and the list that collects them. Knows nothing of YAML, fields or entries. A check goes on after a
problem: it reports, leaves the value out, and whoever needs the value does without it, so that one mistake is said once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A character in a file; line and column count from 1."""

    path: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake: what is wrong, and what was expected."""

    place: Place
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class Mistake(Exception):
    """A value is wrong; whoever knows its place and its field's name catches this and reports a `Problem`."""


class Unavailable(Mistake):
    """The field asks for what this version does not have."""

    def __init__(self) -> None:
        super().__init__("is not available in this version")


class Problems:
    """All problems found so far."""

    def __init__(self) -> None:
        self._found: set[Problem] = set()

    def __len__(self) -> int:
        return len(self._found)

    def add(self, place: Place, message: str) -> None:
        """Report a problem; the same one twice counts once."""
        self._found.add(Problem(place, message))

    def by_place(self) -> tuple[Problem, ...]:
        """All of them, in the order of their places."""
        return tuple(sorted(self._found))


def shown(value: object) -> str:
    """Return the value as a message shows it: quoted, on one line, and not longer than a line."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def closest(wrong: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant."""
    matches = difflib.get_close_matches(wrong[:100].lower(), lowered := {word.lower(): word for word in known}, 1)
    return lowered[matches[0]] if matches else None


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """Return `; did you mean x?`, or nothing."""
    meant = closest(wrong, known)
    return f"; did you mean {meant}?" if meant else ""
