"""Invariants 11 and 15: what a disturbance may cost others, restarts, and the way back to the baseline."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from ....kernel.wire import journal_records as j
from ..entry import Entry
from .world import CLEAN, Relations, Violation, World

_OUT = frozenset({"stopped", "finished", "failed"})
"""States of a service that nothing leaves but being told to start."""


def disturbance_is_bounded(world: World) -> list[Violation]:
    """11. Stalling one process bounds the latency and memory of all unrelated pairs."""
    found = []
    bounds = {(record.what, record.whose): record.value for _, record in world.of(j.Bound)}
    latencies: dict[tuple[str, str], dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry, sample in world.of(j.Sample):
        bound = bounds.get((sample.what, sample.whose))
        if bound is not None and sample.value > bound:
            found.append(Violation(11, f"{sample.what} of {sample.whose} is at most {bound:g}", (entry,)))
        if sample.phase in ("undisturbed", "disturbed"):
            latencies[sample.what, sample.whose][sample.phase].append(entry)
    for (what, whose), phases in latencies.items():
        if len(phases) == 2:
            before, during = _percentile(phases["undisturbed"]), _percentile(phases["disturbed"])
            allowed = max(before.record[3] * world.limits.latency_factor, world.limits.latency_floor)
            if during.record[3] > allowed:
                found.append(Violation(11, f"the p99 of {what} of {whose} is at most {allowed:g}", (before, during)))
    return found


def _percentile(samples: Sequence[Entry], share: float = 0.99) -> Entry:
    """The sample below which this share is, by rank."""
    ordered = sorted(samples, key=lambda entry: float(entry.record[3]))
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def all_comes_back(world: World) -> list[Violation]:
    """15. Restarts keep to S37 and S38; after stop there is no start; tables, descriptors, timers and memory come back to
    their baseline."""
    return _tables_agree(world) + _restarts(world) + _baseline(world)


def _tables_agree(world: World) -> list[Violation]:
    """The sizes of the supervisor's tables are those of a model that knows only what was asked, and who died."""
    found = []
    model = Relations()
    for entry in world.supervisor:
        model.take(entry.record)
        if isinstance(entry.record, j.TableSizes):
            expected = model.sizes()
            wrong = {name: size for name, size in entry.record.sizes if expected.get(name, size) != size}
            for name, size in wrong.items():
                found.append(Violation(15, f"{expected[name]} {name} in the table, not {size}", (entry,)))
    return found


class _Restarts:
    """One service, and how often it has come back since it was told to start."""

    def __init__(self, policy: j.ServiceConfigured) -> None:
        self.policy = policy
        self.begin()

    def begin(self) -> None:
        self.attempt = 0
        self.restarts: list[float] = []
        self.planned: list[float] = []
        self.running: float | None = None
        self.state = "stopped"
        self.died: Entry | None = None
        self.backing_off: Entry | None = None

    def changed(self, entry: Entry, state: str) -> None:
        """Follow a change of state."""
        if state in ("waiting", "replacing"):  # its restarts so far are forgotten; and somebody has asked for the next
            self.begin()
        elif state == "running":
            self.running = entry.time
        elif state == "backing off":
            stable = self.running is not None and entry.time - self.running >= self.policy.stable_threshold
            self.attempt = 1 if stable else self.attempt + 1
            self.backing_off, self.running = entry, None
            self.planned.append(entry.time)
        self.state = state

    def gave_up_early(self, entry: Entry) -> bool:
        """Whether it gave up though it might have restarted. Counted is widely: a restart is planned before it is due."""
        policy = self.policy
        since = entry.time - policy.period - policy.max_delay * (1 + policy.jitter)
        return policy.type != "temporary" and sum(time > since for time in self.planned) < policy.intensity

    def least_delay(self) -> float:
        """Seconds, S38."""
        policy = self.policy
        try:
            delay = min(policy.max_delay, policy.initial_delay * policy.factor ** (max(1, self.attempt) - 1))
        except OverflowError:
            delay = policy.max_delay
        return delay * (1 - policy.jitter)


def _restarts(world: World) -> list[Violation]:
    found: list[Violation] = []
    services: dict[str, _Restarts] = {}
    process_of: dict[str, str] = {}
    stopping: Entry | None = None
    for entry in world.supervisor:
        match entry.record:
            case j.Booted():
                services, stopping = {}, None
            case j.ServiceConfigured() as policy if policy.service in services:  # a reload
                services[policy.service].policy = policy
            case j.ServiceConfigured() as policy:
                services[policy.service] = _Restarts(policy)
            case j.Stopping():
                stopping = entry
            case j.ServiceChanged(service=service, state=state) if service in services:
                if state == "failed" and stopping is None and services[service].gave_up_early(entry):
                    most = services[service].policy.intensity
                    found.append(Violation(15, f"{service} is given up after {most} restarts, not before", (entry,)))
                services[service].changed(entry, state)
            case j.Died(pid=pid) if pid in process_of and services[process_of[pid]].state != "replacing":
                services[process_of[pid]].died = entry
            case j.Spawned(pid=pid, service=service) if service in services:
                process_of[pid] = service
                if stopping is not None:
                    found.append(Violation(15, f"{service} does not start after stop", (stopping, entry)))
                found += _restarted(world, services[service], entry)
    return found


def _restarted(world: World, service: _Restarts, spawned: Entry) -> list[Violation]:
    """A process of a service was made: the first, or a restart."""
    found = []
    policy, died = service.policy, service.died
    name = policy.service
    if service.state in _OUT and died is not None:
        found.append(
            Violation(15, f"{name} is {service.state}: nothing starts it until it is told to", (died, spawned))
        )
    if died is None or not isinstance(died.record, j.Died):
        return found
    clean = died.record.kind in CLEAN
    if policy.type == "temporary" or (policy.type == "transient" and clean):
        found.append(Violation(15, f"{name} is {policy.type}: it does not come back", (died, spawned)))
    since = service.backing_off or died
    delay, least = spawned.time - since.time, service.least_delay()
    if delay < least - world.limits.clock_slack:
        found.append(
            Violation(15, f"{name} comes back after at least {least:.3g} s, not {delay:.3g}", (since, spawned))
        )
    service.restarts.append(spawned.time)
    within = [time for time in service.restarts if time > spawned.time - policy.period + world.limits.clock_slack]
    if len(within) > policy.intensity:
        what = f"{name} restarts at most {policy.intensity} times within {policy.period:g} s, not {len(within)} times"
        found.append(Violation(15, what, (died, spawned)))
    return found


def _baseline(world: World) -> list[Violation]:
    found = []
    phases: dict[tuple[str, str], dict[str, Entry]] = defaultdict(dict)
    for entry, sample in world.of(j.Sample):
        largest = phases[sample.what, sample.whose].get(sample.phase)
        if sample.phase in ("baseline", "end") and (largest is None or largest.record[3] < sample.value):
            phases[sample.what, sample.whose][sample.phase] = entry
    for (what, whose), of in phases.items():
        if len(of) == 2:
            allowed = of["baseline"].record[3]
            if what == "memory":
                allowed = allowed * world.limits.memory_growth + world.limits.memory_slack
            if of["end"].record[3] > allowed:
                expected = f"{what} of {whose} comes back to {allowed:g}: it is {of['end'].record[3]:g}"
                found.append(Violation(15, expected, (of["baseline"], of["end"])))
    return found
