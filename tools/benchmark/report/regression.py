"""The regression check: CPU per message as a ratio to a peer in the same run, beside the ratios that are committed.

A rate changes with whatever else the machine does, and CPU per message changes with the machine; the ratio of two servers
that were measured in turns changes little with either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .tables import share_of_cpu
from .text import Table

COMMITTED = Path(__file__).resolve().parents[3] / "docs" / "performance" / "regression.json"
CASES = ("echo", "echo-many", "echo-large")
PEER = "uvicorn-wsproto"
OWN = "wsrelay"
TOLERANCE = 0.35
"""A ratio may be so much larger than the committed one. See docs/performance/README.md for what it was chosen from."""


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


def accept(found: Mapping[str, float], commit: str) -> None:
    """Make these the ratios to compare with."""
    document = {"peer": PEER, "commit": commit, "tolerance": TOLERANCE, "ratios": dict(found)}
    COMMITTED.write_text(json.dumps(document, indent=2) + "\n")


def check(found: Mapping[str, float]) -> tuple[str, bool]:
    """Compare with the committed ratios; returns a table and whether none is worse than the tolerance allows."""
    committed = json.loads(COMMITTED.read_text())
    table = Table([f"CPU per message ÷ that of {PEER}", "committed", "now", "at most", ""])
    passed = True
    for name, ratio in found.items():
        before = committed["ratios"][name]
        bound = before * (1 + committed["tolerance"])
        fine = ratio <= bound
        passed &= fine
        table.add(name, f"{before:.2f}", f"{ratio:.2f}", f"{bound:.2f}", "passed" if fine else "WORSE")
    return str(table), passed
