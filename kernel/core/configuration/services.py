"""`process.service` entries to services: what they refer to, and what they cannot be together.

Owns the checks of names that two services want and of services that require each other in a circle.
"""

from __future__ import annotations

import graphlib
import itertools
from collections.abc import Callable

import msgpack

from ...wire.configuration import Lifecycle, Restart, Service
from .entries import Entry
from .problems import Problems
from .types import Reference

Refer = Callable[[Entry, str, str], str | None]
"""(entry, field, kind) to the id of the entry that the field refers to."""
ReferAll = Callable[[Entry, str, str], dict[str, Reference]]
"""The same for a field with several references."""


def assemble_services(
    entries: list[Entry], refer: Refer, refer_all: ReferAll, problems: Problems
) -> dict[str, Service]:
    """Return the services by id; those that lack something that was bad are left out."""
    _check_names(entries, problems)
    made = {}
    requirements: dict[str, dict[str, Reference]] = {}
    for entry in entries:
        process, host = refer(entry, "process", "process.python"), refer(entry, "host", "process.host")
        requirements[entry.id] = refer_all(entry, "lifecycle.requires", "process.service")
        _check_delays(entry, problems)
        if process is not None and host is not None:
            made[entry.id] = Service(
                id=entry.id,
                process=process,
                host=host,
                arguments=msgpack.packb(list(entry.values["args"])),
                register=entry.values["register"],
                lifecycle=_lifecycle(entry, tuple(requirements[entry.id])),
            )
    _check_circles(requirements, problems)
    return made


def _lifecycle(entry: Entry, requires: tuple[str, ...]) -> Lifecycle:
    own = [name for name in Lifecycle.__dataclass_fields__ if name not in ("requires", "restart")]
    restart = {name: entry.values[f"lifecycle.restart.{name}"] for name in Restart.__dataclass_fields__}
    return Lifecycle(
        requires=requires, restart=Restart(**restart), **{name: entry.values[f"lifecycle.{name}"] for name in own}
    )


def _check_names(entries: list[Entry], problems: Problems) -> None:
    holders: dict[str, Entry] = {}
    for entry in entries:
        name = entry.values["register"]
        if name is not None and (first := holders.setdefault(name, entry)) is not entry:
            message = f"register: the name {name} is that of {first.id} at {first.place_of('register')}"
            problems.add(entry.place_of("register"), message)


def _check_delays(entry: Entry, problems: Problems) -> None:
    initial, most = (entry.values[f"lifecycle.restart.{name}_delay"] for name in ("initial", "max"))
    if initial > most and not entry.bad & {"lifecycle.restart.initial_delay", "lifecycle.restart.max_delay"}:
        message = f"lifecycle.restart.initial_delay: expected at most max_delay, {most:g}s, got {initial:g}s"
        problems.add(entry.place_of("lifecycle.restart.initial_delay"), message)


def _check_circles(requirements: dict[str, dict[str, Reference]], problems: Problems) -> None:
    """Report every circle once, at the reference in it that comes first, and go on without that one."""
    left = {id: dict(required) for id, required in requirements.items()}
    while (circle := _find_circle(left)) is not None:
        steps = list(itertools.pairwise(circle))
        start = min(range(len(steps)), key=lambda step: left[steps[step][0]][steps[step][1]].place)
        service, required = steps[start]
        turned = [one for one, _ in steps[start:] + steps[:start]]
        chain = " requires ".join([*turned, service])
        problems.add(
            left[service][required].place, f"lifecycle.requires: a circle, in which nothing can start first: {chain}"
        )
        del left[service][required]


def _find_circle(requirements: dict[str, dict[str, Reference]]) -> list[str] | None:
    """Return ids each of which requires the next; the last is the first."""
    try:
        graphlib.TopologicalSorter(requirements).prepare()
    except graphlib.CycleError as error:
        circle: list[str] = error.args[1]
        return circle[::-1]  # each there is required by the next
    return None
