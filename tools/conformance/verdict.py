"""What the suite found, judged: nothing FAILED, and no more NON-STRICT than plain wsproto under uvicorn. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

NON_STRICT_ALLOWED = 7
"""What wsproto under uvicorn has in groups 1-7, 9 and 10: 3.2, 3.3, 4.1.3, 4.1.4, 4.2.3, 4.2.4 and 5.15."""

ACCEPTED = frozenset({"OK", "NON-STRICT", "INFORMATIONAL"})
_SHOWN = ("OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "FAILED")


@dataclass(frozen=True)
class Case:
    """One case of the suite and what became of it, in the suite's own words."""

    number: str
    behavior: str
    closing: str

    @property
    def group(self) -> str:
        """`9` of `9.1.6`."""
        return self.number.partition(".")[0]

    @property
    def result(self) -> str:
        """The behavior, or FAILED if only the closing was wrong."""
        return self.behavior if self.closing in ACCEPTED else "FAILED"


def read(index: Mapping[str, Mapping[str, Mapping[str, object]]]) -> list[Case]:
    """The cases of an `index.json` of the suite, in the suite's order. Raises ValueError if it holds no case."""
    cases = [
        Case(number, str(found["behavior"]), str(found["behaviorClose"]))
        for agent in index.values()
        for number, found in agent.items()
    ]
    if not cases:
        raise ValueError("the suite reported no case")
    return sorted(cases, key=lambda case: [int(part) for part in case.number.split(".")])


def problems(cases: list[Case], allowed: int = NON_STRICT_ALLOWED) -> list[str]:
    """Why this is no pass; empty if it is one. `allowed`: how many cases may be NON-STRICT."""
    found = [
        f"{case.number}: behavior {case.behavior}, closing {case.closing}"
        for case in cases
        if case.result not in ACCEPTED
    ]
    non_strict = [case.number for case in cases if case.result == "NON-STRICT"]
    if len(non_strict) > allowed:
        found.append(f"{len(non_strict)} cases are NON-STRICT, at most {allowed} may be: {' '.join(non_strict)}")
    return found


def table(cases: list[Case]) -> str:
    """A row for each group and one for all."""
    lines = [f"{'group':>6}" + "".join(f"{name:>15}" for name in _SHOWN)]
    groups = sorted({case.group for case in cases}, key=int)
    for group in [*groups, "all"]:
        counts = Counter(case.result for case in cases if group in ("all", case.group))
        lines.append(f"{group:>6}" + "".join(f"{counts[name] or '':>15}" for name in _SHOWN))
    for name in _SHOWN[1:]:
        if numbers := [case.number for case in cases if case.result == name]:
            lines.append(f"{name}: {' '.join(numbers)}")
    return "\n".join(lines)
