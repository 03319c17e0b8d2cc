"""The regression check: CPU per message as a ratio to a peer in the same run, beside the ratios that are committed.

A rate changes with whatever else the machine does, and CPU per message changes with the machine; the ratio of two servers
that were measured in turns changes little with either.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import documents
from .tables import share_of_cpu
from .text import Table

COMMITTED = Path(__file__).resolve().parents[3] / "docs" / "performance" / "regression.json"
CASES = ("echo", "echo-many", "echo-large")
PEER = "uvicorn-wsproto"
OWN = "wsrelay"
TOLERANCE = 0.35
"""A ratio may be so much larger than the committed one."""
ACCEPT = "tools/bench --check --accept"


@dataclass(frozen=True)
class Committed:
    """What to compare with: the ratio of each case, and by which share of it one may be larger."""

    ratios: Mapping[str, float]
    tolerance: float


def read(path: Path) -> Committed:
    """The committed ratios. Raises RuntimeError, which says what to do, if there are none for every case."""
    document = documents.read(path, ACCEPT)
    peer: Any = document.get("peer")
    tolerance: Any = document.get("tolerance")
    ratios: Any = document.get("ratios")
    wrong = []
    if peer != PEER:
        wrong.append(f"'peer' must be {PEER!r}, got {peer!r}")
    if not _is_number(tolerance) or tolerance < 0:
        wrong.append(f"'tolerance' must be a number from 0, got {tolerance!r}")
    if not isinstance(ratios, dict):
        wrong.append(f"'ratios' must be an object, got {ratios!r}")
    else:
        wrong += [
            f"the ratio of {name!r} must be a number over 0, got {ratios.get(name)!r}"
            for name in CASES
            if not _is_number(ratios.get(name)) or ratios[name] <= 0
        ]
    if wrong:
        raise RuntimeError(f"{path}: {'; '.join(wrong)}: '{ACCEPT}' writes it anew")
    return Committed({name: ratios[name] for name in CASES}, tolerance)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def ratios(results: Mapping[str, Any]) -> dict[str, float]:
    """The ratio of each case. Raises RuntimeError for a case without one."""
    found = {}
    for name in CASES:
        ratio = share_of_cpu(results[name], OWN, PEER)
        if ratio is None:
            failed = results[name]["failed"] or "a server was missing"
            raise RuntimeError(f"{name}: there is nothing to compare: {failed}")
        found[name] = round(ratio, 3)
    return found


def accept(found: Mapping[str, float], commit: str, path: Path) -> Committed:
    """Make these the ratios to compare with."""
    document = {"peer": PEER, "commit": commit, "tolerance": TOLERANCE, "ratios": dict(found)}
    path.write_text(json.dumps(document, indent=2) + "\n")
    return Committed(found, TOLERANCE)


def check(found: Mapping[str, float], committed: Committed) -> tuple[str, bool]:
    """Compare with the committed ratios; returns a table and whether none is worse than the tolerance allows."""
    table = Table([f"CPU per message ÷ that of {PEER}", "committed", "now", "at most", ""])
    passed = True
    for name, ratio in found.items():
        before = committed.ratios[name]
        bound = before * (1 + committed.tolerance)
        fine = ratio <= bound
        passed &= fine
        table.add(name, f"{before:.2f}", f"{ratio:.2f}", f"{bound:.2f}", "passed" if fine else "WORSE")
    return str(table), passed
