"""Latencies as a few numbers: percentiles, and a histogram with buckets of equal ratio."""

from __future__ import annotations

import math
from typing import Any

RATIO = 1.06
"""Of a bucket's end to its start. A bucket's number is the logarithm of its start in microseconds to this base."""


def bucket_start(number: int) -> float:
    """In microseconds."""
    return float(RATIO**number)


def percentile(ordered: list[float], share: float) -> float:
    """The value that `share` of the ordered values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def summary(seconds: list[float]) -> dict[str, Any]:
    """Percentiles in microseconds and the histogram: a bucket's number, as text, to its count."""
    if not seconds:
        return {}
    ordered = sorted(second * 1e6 for second in seconds)
    histogram: dict[str, int] = {}
    for value in ordered:
        key = str(math.floor(math.log(max(value, 1.0), RATIO)))
        histogram[key] = histogram.get(key, 0) + 1
    found = {name: percentile(ordered, share) for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}
    return {**found, "largest": ordered[-1], "histogram": histogram}
