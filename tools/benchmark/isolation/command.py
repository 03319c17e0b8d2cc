"""All disturbances, one after the other, and what came of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from ..peers.process import Server, running_wsrelay
from ..report.tables import cut
from ..report.text import Table, progress
from . import crashes, pressure
from .excesses import EXCESSES
from .layout import APPLICATION, Apart, apart
from .outside import Outside
from .profile import Profile
from .services import Comeback
from .verdict import LATENCY_FACTOR, MIB, problems

APART = "{} apart"
OF_SERVICE = "{} of a service"
OUTSIDE = "outside"
FORKING = "processes"
"""The disturbance that `OUTSIDE` is compared with."""


class Case(Protocol):
    """One disturbance."""

    @property
    def TITLE(self) -> str:
        """What is measured."""

    def measure(self, server: Server, profile: Profile) -> dict[str, Any]:
        """Disturb, and return the figures."""


CASES: dict[str, Case] = {"crashes": crashes, "pressure": pressure, **EXCESSES}


class Step(NamedTuple):
    """One case in one layout."""

    name: str
    case: Case
    running: AbstractContextManager[Server]
    promised: bool
    """Whether the p99 is: of what is kept apart, and of what needs no processor that keeps it apart."""


def run(profile: Profile, about: Mapping[str, str]) -> dict[str, Any]:
    """Measure, under the conditions that `about` says; returns the document: `conditions`, and for each case its figures and its `problems`."""
    layout = apart()
    cases: dict[str, dict[str, Any]] = {}
    for step in _steps(profile, layout, cases):
        with step.running as server:
            found = step.case.measure(server, profile)
        found = {"title": step.case.TITLE, "promised": step.promised} | found
        cases[step.name] = found | {"problems": problems(found, timing=profile.timing)}
    progress("")
    return {
        "conditions": dict(about),
        "profile": "full" if profile.timing else "quick",
        "rounds": profile.rounds,
        "seconds": profile.seconds,
        "p99 bound": LATENCY_FACTOR,
        "layout": {"kept": layout.kept, "noisy": layout.noisy} if layout else None,
        "cases": cases,
    }


def _steps(profile: Profile, layout: Apart | None, done: Mapping[str, Mapping[str, Any]]) -> Iterator[Step]:
    """What is to be done, one after the other; `done` is what has been found by then."""
    for name, case in CASES.items():
        separable = name in Profile.apart
        yield Step(name, case, running_wsrelay(APPLICATION), not separable)
        if layout and name in profile.apart:
            yield Step(APART.format(name), case, layout.running(), True)
    for name in profile.services:
        yield Step(OF_SERVICE.format(name), Comeback(EXCESSES[name]), running_wsrelay(APPLICATION), True)
    if layout and (forked := done.get(APART.format(FORKING))):
        rate = sum(phase["forks"] for phase in forked["disturbed"]) / (profile.rounds * profile.seconds)
        yield Step(OUTSIDE, Outside(layout.noisy, rate), layout.running(), False)


def text(document: Mapping[str, Any]) -> str:
    """The document for people."""
    lines = [] if document["layout"] else ["nothing is kept apart: that takes two processors", ""]
    for name, found in document["cases"].items():
        lines += [f"{name}: {found['title']}", ""]
        table = Table(["echo latency", "p50 ms", "p99 ms"])
        for kind in ("calm", "disturbed"):
            table.add(kind, f"{found[f'{kind} p50 ms']:.2f}", f"{found[f'{kind} p99 ms']:.2f}")
        bound = f"at most {LATENCY_FACTOR:g}" if found["promised"] else "nothing is promised"
        lines += [str(table), f"p99 disturbed / calm: {cut(found['p99 ratio'], 2, at_least=False)} ({bound})"]
        for crashed in found.get("crashes", ()):
            lines.append(f"{crashed['asked']} crashes in {crashed['seconds']:.1f} s, told as {crashed['reasons']}")
        for ended in found.get("ends", ()):
            lines.append(f"ended in {ended['seconds']:.1f} s: {ended['reasons']}")
        if "memory" in found:
            table = Table(["resident memory, MiB", "calm", "largest", "growth", "bound"])
            for whose, memory in found["memory"].items():
                table.add(whose, *(f"{memory[key] / MIB:.1f}" for key in ("calm", "largest", "growth", "bound")))
            flooded = ", ".join(f"{count / MIB:.1f}" for count in found["flooded bytes"])
            closed = ", ".join(map(str, found["closed though it never reads"]))
            lines += [
                "",
                str(table),
                f"MiB taken of the flood: {flooded}; the client that never reads was closed: {closed}",
            ]
        lines += [*(f"NOT REACHED: {problem}" for problem in found["problems"]), ""]
    return "\n".join([*lines, *(f"{name}: {value}" for name, value in document["conditions"].items())])


def reached(document: Mapping[str, Any]) -> bool:
    """Whether everything is as it must be."""
    return not any(found["problems"] for found in document["cases"].values())
