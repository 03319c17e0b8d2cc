"""What a case is, and whether its marks are reached. No I/O here.

A round's result is a dict of measures by name; a mark compares the medians of this run.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..peers.process import Server
from ..peers.registry import OURS, PEERS, is_ours

BEST_ISOLATED = "the best isolated peer"
Rounds = Mapping[str, Sequence[Mapping[str, Any]]]
"""The results of a case: for each server, one dict for each round."""


@dataclass(frozen=True)
class Settings:
    """How long and how much. The quick ones only show that everything works."""

    rounds: int = 5
    seconds: float = 1.5
    quick: bool = False

    def scaled(self, full: int, quick: int) -> int:
        """A count, by profile."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Measure:
    """One column of a case's table."""

    key: str
    title: str
    digits: int = 0
    ranged: bool = True
    """Whether the range of the rounds stands beside it."""


@dataclass(frozen=True)
class Mark:
    """What must be reached: a measure of one server, at least or at most a bound.

    The bound is `factor` times the same measure of `peer`; without `peer` it is `factor` itself. `against` is another
    measure of the same server, for growth.
    """

    measure: str
    factor: float
    at_least: bool = True
    peer: str = ""
    server: str = OURS
    against: str = ""
    unit: str = ""

    def text(self) -> str:
        """As the tables say it."""
        sign = "≥" if self.at_least else "≤"
        whose = "" if self.server == OURS else f"{PEERS[self.server].title}: "
        if self.against:
            return f"{whose}{self.measure} {sign} {self.factor:g} × {self.against}"
        if not self.peer:
            return f"{whose}{self.measure} {sign} {self.factor:,g} {self.unit}".rstrip()
        title = self.peer if self.peer == BEST_ISOLATED else PEERS[self.peer].title
        return f"{whose}{self.measure} {sign} {self.factor:g} × {title}"

    def judge(self, rounds: Rounds, absent: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Whether it is reached in these results: `text`, `at least`, `value`, `bound`, `ratio`, `reached` (None: cannot be told).

        A mark against the best isolated peer says also which one that was, `best`, and which ones might have been it and why
        they were not, `absent`.
        """
        verdict: dict[str, Any] = {"text": self.text(), "at least": self.at_least}
        verdict |= {"value": None, "bound": None, "ratio": None, "reached": None}
        value = median(rounds.get(self.server, ()), self.measure)
        base: float | None = 1.0
        if self.against:
            base = median(rounds.get(self.server, ()), self.against)
        elif self.peer == BEST_ISOLATED:
            best, base = self._best_isolated(rounds)
            verdict |= {"best": best, "absent": dict(absent or {})}
        elif self.peer:
            base = median(rounds.get(self.peer, ()), self.measure)
        if value is None or not base:
            return verdict
        bound = base * self.factor
        reached = value >= bound if self.at_least else value <= bound
        return verdict | {"value": value, "bound": bound, "ratio": value / base, "reached": reached}

    def _best_isolated(self, rounds: Rounds) -> tuple[str | None, float | None]:
        isolated = [name for name in rounds if PEERS[name].isolated and not is_ours(name)]
        found = {name: value for name in isolated if (value := median(rounds[name], self.measure)) is not None}
        if not found:
            return None, None
        best = (max if self.at_least else min)(found, key=found.__getitem__)
        return best, found[best]


@dataclass(frozen=True)
class Case:
    """One row of what is promised."""

    name: str
    title: str
    servers: tuple[str, ...]
    measure: Callable[[Server, Settings], dict[str, Any]]
    """Measures one server once. Raises RuntimeError or OSError."""
    measures: tuple[Measure, ...]
    marks: tuple[Mark, ...] = ()
    fresh: bool = False
    """Whether every round needs a server that nothing has used before."""
    explanation: str = ""

    def judge(self, rounds: Rounds, missing: Container[str], failed: Container[str]) -> list[dict[str, Any]]:
        """All marks. `missing` could not be started, `failed` did not do all rounds; what else has no results was left out."""
        absent = {}
        for name in self.servers:
            if PEERS[name].isolated and not is_ours(name) and (name in failed or not rounds.get(name)):
                absent[name] = "failed" if name in failed else "missing" if name in missing else "left out"
        return [mark.judge(rounds, absent) for mark in self.marks]


def median(rounds: Sequence[Mapping[str, Any]], measure: str) -> float | None:
    """The median of a measure; None if no round has it."""
    values = [one[measure] for one in rounds if one.get(measure) is not None]
    return statistics.median(values) if values else None
