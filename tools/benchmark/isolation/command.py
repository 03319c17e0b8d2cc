"""All disturbances, one after the other, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ..peers.process import Server, running_wsrelay
from ..report.tables import cut
from ..report.text import Table, conditions, progress
from . import crashes, pressure
from .excesses import EXCESSES
from .profile import Profile
from .verdict import LATENCY_FACTOR, MIB, problems

APPLICATION = Path(__file__).parent / "application"


class Case(Protocol):
    """One disturbance."""

    @property
    def TITLE(self) -> str:
        """What is measured."""

    def measure(self, server: Server, profile: Profile) -> dict[str, Any]:
        """Disturb, and return the figures."""


CASES: dict[str, Case] = {"crashes": crashes, "pressure": pressure, **EXCESSES}


def run(profile: Profile) -> dict[str, Any]:
    """Measure; returns the document: `conditions`, and for each case its figures and its `problems`."""
    about = conditions()
    cases = {}
    for name, case in CASES.items():
        with running_wsrelay(APPLICATION) as server:
            found = case.measure(server, profile)
        cases[name] = {"title": case.TITLE, **found, "problems": problems(found, timing=profile.timing)}
    progress("")
    return {
        "conditions": about,
        "profile": "full" if profile.timing else "quick",
        "rounds": profile.rounds,
        "seconds": profile.seconds,
        "p99 bound": LATENCY_FACTOR,
        "cases": cases,
    }


def text(document: Mapping[str, Any]) -> str:
    """The document for people."""
    lines = []
    for name, found in document["cases"].items():
        lines += [f"{name}: {found['title']}", ""]
        table = Table(["echo latency", "p50 ms", "p99 ms"])
        for kind in ("calm", "disturbed"):
            table.add(kind, f"{found[f'{kind} p50 ms']:.2f}", f"{found[f'{kind} p99 ms']:.2f}")
        lines += [
            str(table),
            f"p99 disturbed / calm: {cut(found['p99 ratio'], 2, at_least=False)} (at most {LATENCY_FACTOR:g})",
        ]
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
