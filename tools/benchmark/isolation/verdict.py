"""What a disturbance may cost: latency beside the calm phases of the same run, and memory by the configuration. No I/O.

The bounds of memory are those of docs/operations.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..load.latency import bucket_start

KIB = 1 << 10
MIB = 1 << 20
LATENCY_FACTOR = 2.0
ONE_READ = 256 * KIB
"""Bytes that the gateway may hold of a client beyond a message that is not complete: what it reads at a time."""
ONE_WRITE = 64 * KIB
"""Bytes that it collects for a client before it writes them."""
ALLOCATOR = 1.25
"""Resident memory is more than what is in use: the allocator keeps some of what was given back."""
SLACK = 16 * MIB


def gateway_bound(
    *, inbound: int, outbound: int, message: int, stopped_workers: int, their_clients: int, slow_clients: int
) -> int:
    """Bytes by which the gateway may grow: by each worker that does not read, by its clients, by each client that does not."""
    workers = stopped_workers * (2 * inbound + message)  # beyond one `inbound` only joins are taken
    clients = their_clients * (message + ONE_READ)
    slow = slow_clients * (max(outbound, message) + ONE_WRITE)
    return round((workers + clients + slow) * ALLOCATOR) + SLACK


def supervisor_bound(*, mailbox: int, stopped_workers_with_mail: int) -> int:
    """Bytes by which the supervisor may grow: what clients send does not pass through it, only mail of workers."""
    return round(mailbox * stopped_workers_with_mail * ALLOCATOR) + SLACK


def percentile(histograms: Iterable[Mapping[str, int]], share: float) -> float:
    """The percentile, in microseconds, of all latencies in some histograms: the end of its bucket."""
    counts: Counter[int] = Counter()
    for histogram in histograms:
        counts.update({int(bucket): count for bucket, count in histogram.items()})
    rank, passed = math.ceil(share * counts.total()), 0
    for bucket in sorted(counts):
        passed += counts[bucket]
        if passed >= rank:
            return bucket_start(bucket + 1)
    raise ValueError("no latencies")


def latencies(calm: Iterable[Mapping[str, Any]], disturbed: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The p50 and the p99 of both kinds of phases, in milliseconds, and the ratio of the p99."""
    calm, disturbed = list(calm), list(disturbed)
    found = {}
    for name, phases in (("calm", calm), ("disturbed", disturbed)):
        histograms = [phase["histogram"] for phase in phases]
        found[f"{name} p50 ms"] = percentile(histograms, 0.5) / 1000
        found[f"{name} p99 ms"] = percentile(histograms, 0.99) / 1000
    return found | {"p99 ratio": found["disturbed p99 ms"] / found["calm p99 ms"]}


def problems(found: Mapping[str, Any], *, timing: bool) -> list[str]:
    """What is not as it must be. `timing`: judge times too, which takes a machine that does nothing else. `promised` of what was
    found says whether its p99 is; it is if nothing is said."""
    wrong = []
    if timing and found.get("promised", True) and found["p99 ratio"] > LATENCY_FACTOR:
        wrong.append(f"the p99 is {found['p99 ratio']:.2f} times the calm one, at most {LATENCY_FACTOR:g} is allowed")
    for crashed in found.get("crashes", ()):
        if crashed["reasons"] != {"signal:SIGSEGV": crashed["asked"]} or crashed["missing"]:
            wrong.append(f"{crashed['asked']} crashes were asked for, and told are {crashed['reasons']}")
        if timing and crashed["seconds"] > 1.1 * crashed["wanted seconds"]:
            wrong.append(f"the crashes took {crashed['seconds']:.1f} s instead of {crashed['wanted seconds']:g} s")
    for ended in found.get("ends", ()):
        if set(ended["reasons"]) != {found["expected reason"]}:
            wrong.append(f"each was to end with {found['expected reason']}, and told are {ended['reasons']}")
    for whose, memory in found.get("memory", {}).items():
        if memory["growth"] > memory["bound"]:
            allowed = f"{memory['bound'] / MIB:.1f} MiB"
            wrong.append(f"the {whose} grows by {memory['growth'] / MIB:.1f} MiB, at most {allowed} are allowed")
    return wrong
