"""What a soak has found, as a table: the faults, how soon each showed, and whether anything grew. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Final, NamedTuple

from .program import Program, show
from .session import Outcome

SHARE: Final = 1000
"""Faults at the beginning, and at the end, that are compared for growth."""
MEMORY_FACTOR: Final = 1.1
MEMORY_SLACK: Final = 1 << 20
"""Bytes. What an allocator keeps is no growth, nor is a cache with a bound that fills. That is little in the parts that live as
long as the runtime: over 20,000 processes the supervisor grew by 0.6 MiB, in the first quarter, and the gateway by 0.1."""


class Row(NamedTuple):
    """One kind of fault."""

    fault: str
    times: int
    violations: int
    """Programs with this fault that broke a promise."""
    median: float | None
    worst: float | None


class Growth(NamedTuple):
    """One measurement at the beginning and at the end."""

    what: str
    first: float
    last: float

    @property
    def grew(self) -> bool:
        """Whether it is more than it may be."""
        if self.what.startswith("memory"):
            return self.last > self.first * MEMORY_FACTOR + MEMORY_SLACK
        return self.last > self.first


class Report:
    """Collects outcomes."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.faults = 0
        self.programs = 0
        self.failures: list[Outcome] = []
        self._times: dict[str, int] = defaultdict(int)
        self._violations: dict[str, int] = defaultdict(int)
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._disturbed: dict[str, list[float]] = defaultdict(list)
        self._samples: list[tuple[int, Mapping[str, float]]] = []

    def add(self, outcome: Outcome) -> None:
        """One program more."""
        self.programs += 1
        self.faults += len(outcome.faults)
        for fault in outcome.faults:
            self._times[fault.name] += 1
            if fault.seconds is not None:
                self._seconds[fault.name].append(fault.seconds)
        if outcome.failed:
            self.failures.append(outcome)
            for name in {fault.name for fault in outcome.faults}:
                self._violations[name] += 1
        for what, worst in outcome.disturbed.items():
            self._disturbed[what].append(worst)
        if outcome.samples:
            self._samples.append((self.faults, outcome.samples))

    def rows(self) -> list[Row]:
        """The table."""
        return [
            Row(name, times, self._violations[name], *_summary(self._seconds[name]))
            for name, times in sorted(self._times.items(), key=lambda item: (-item[1], item[0]))
        ]

    def growth(self) -> list[Growth]:
        """Each measurement in the first share of the faults and in the last; nothing if there were too few to tell."""
        share = min(SHARE, self.faults // 4)
        first = _medians(samples for faults, samples in self._samples if faults <= share)
        last = _medians(samples for faults, samples in self._samples if faults > self.faults - share)
        return [Growth(what, first[what], last[what]) for what in sorted(first.keys() & last.keys())]

    @property
    def failed(self) -> bool:
        """Whether a promise was broken, or something grew."""
        return bool(self.failures) or any(each.grew for each in self.growth())

    def text(self) -> str:
        """All of it, for a person."""
        lines = [f"{'fault':<34} {'times':>6} {'violations':>10} {'median':>9} {'worst':>9}"]
        for row in self.rows():
            lines.append(
                f"{row.fault:<34} {row.times:>6} {row.violations:>10} {_duration(row.median):>9} {_duration(row.worst):>9}"
            )
        lines += [
            "",
            f"{self.faults} faults in {self.programs} programs, {len(self.failures)} of which broke a promise",
        ]
        if self._disturbed:
            lines += ["", f"{'the worst of a program':<34} {'median':>12} {'worst':>12}"]
            for what, found in sorted(self._disturbed.items()):
                lines.append(f"{what:<34} {_amount(what, median(found)):>12} {_amount(what, max(found)):>12}")
        growth = self.growth()
        if growth:
            lines += ["", f"{'at rest':<34} {'at first':>12} {'at last':>12}"]
            for each in growth:
                grew = "  it grew" if each.grew else ""
                lines.append(
                    f"{each.what:<34} {_amount(each.what, each.first):>12} {_amount(each.what, each.last):>12}{grew}"
                )
        return "\n".join(lines)


def failure(seed: int, outcome: Outcome) -> str:
    """What to say of a program that broke a promise: what, how to repeat it, and the story."""
    return f"seed {seed}: a promise is broken\n{outcome}\n{replay(outcome.program)}"


def slow(outcome: Outcome) -> str:
    """The stories of the faults that showed late, and how to repeat them."""
    return "\n".join([*outcome.slow, replay(outcome.program)])


def replay(program: Program) -> str:
    """How to perform a program again, as a command: with double quotes inside, for the shell's sake."""
    quoted = show(program).replace("'", '"')
    return f"tools/soak --program '{quoted}'"


def _summary(seconds: Sequence[float]) -> tuple[float | None, float | None]:
    return (median(seconds), max(seconds)) if seconds else (None, None)


def _medians(samples: Iterable[Mapping[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for each in samples:
        for what, value in each.items():
            values[what].append(value)
    return {what: median(found) for what, found in values.items()}


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.1f} ms"


def _amount(what: str, value: float) -> str:
    if what.startswith("latency"):
        return _duration(value)
    return f"{value / (1 << 20):.1f} MiB" if what.startswith("memory") else f"{value:g}"
