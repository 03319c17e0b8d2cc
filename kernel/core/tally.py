"""Counts what the process table has done, for the metrics: spawns, exits, restarts, how long a spawn takes.

Told of the table's effects by the shell that performs them; takes part in no decision. What is counted by are ids of the
configuration and kinds of reasons, so that no handler and no client can make it grow.
"""

from __future__ import annotations

import signal
from collections import Counter, defaultdict
from collections.abc import Iterable

from ..wire import reason as r
from ..wire.observation import Histogram
from ..wire.reason import NOCONNECTION, WireReason
from .effects import ProcessEnded, ServiceChanged, StartWorker
from .service_states import State

_PLAIN = frozenset({r.NORMAL, r.CANCELLED, r.EXCEPTION, r.KILLED, r.NOPROC, r.NOCONNECTION, r.PROTOCOL})
_SIGNALS = frozenset(f"signal:{number.name}" for number in signal.Signals)
OTHER = "other"
USUAL = (_PLAIN - {r.NOPROC}) | r.LIMITS | {"exit", "signal:SIGSEGV", "signal:SIGKILL", "signal:SIGABRT"}
"""Labels that every entry has a count for from the start. An `increase` sees no first event of a series that begins with it; all
signals would be three times as many series."""


def reason_label(reason: WireReason) -> str:
    """Return the kind of a reason (S18) with few values: codes are not told apart."""
    kind = reason.kind
    if kind in _PLAIN or kind in r.LIMITS or kind in _SIGNALS:
        return kind
    group = kind.partition(":")[0]
    return group if group in ("exit", "signal", "limit", "ws_closed") else OTHER


class Tally:
    """The counts since the start."""

    def __init__(self) -> None:
        self.spawns: Counter[str] = Counter()
        self.function_workers: Counter[str] = Counter()
        self.exits: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.restarts: Counter[str] = Counter()
        self.upgrades: Counter[str] = Counter()
        """By the new entry (S35)."""
        self.connections_lost = 0
        self.spawn_seconds = Histogram()
        self._starting: dict[int, float] = {}
        self._backing_off: set[str] = set()

    def starting(self, effect: StartWorker, now: float) -> None:
        """A worker is to be started."""
        if effect.start.pid:
            self.spawns[effect.start.entry] += 1
        else:
            self.function_workers[effect.host] += 1
        self._starting[effect.worker] = now

    def born(self, worker: int, now: float) -> None:
        """It has been forked, and is ours."""
        began = self._starting.pop(worker, None)
        if began is not None:
            self.spawn_seconds.observe(now - began)

    def failed(self, worker: int) -> None:
        """It will never be born."""
        self._starting.pop(worker, None)

    def ended(self, effect: ProcessEnded) -> None:
        """A death has been committed. Connections are counted by the gateway, save those that died with it."""
        if not effect.pid.is_connection:
            self.exits[effect.entry][reason_label(effect.reason)] += 1
        elif effect.reason.kind == NOCONNECTION:
            self.connections_lost += 1

    def exits_of(self, entries: Iterable[str]) -> dict[str, dict[str, int]]:
        """The exits by entry and reason; these `entries` have all that is usual, with 0 for what has not happened."""
        usual = {entry: dict.fromkeys(sorted(USUAL), 0) for entry in entries}
        return {entry: {**usual.get(entry, {}), **self.exits.get(entry, {})} for entry in {**usual, **self.exits}}

    def service_changed(self, effect: ServiceChanged) -> None:
        """A service is in another state: one that starts after backing off restarts (S38)."""
        if effect.state is State.BACKING_OFF:
            self._backing_off.add(effect.service)
        else:
            if effect.state is State.STARTING and effect.service in self._backing_off:
                self.restarts[effect.service] += 1
            self._backing_off.discard(effect.service)
