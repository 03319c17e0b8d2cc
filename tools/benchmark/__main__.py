"""The command line of tools/bench: does what is asked, and writes what was asked for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from . import arguments as command_line
from . import floor, interruption, memory, profiling, runner
from .cases.every import CASES
from .cases.model import Settings
from .isolation import command as isolation
from .isolation.profile import QUICK, Profile
from .peers import installation
from .peers.registry import is_ours
from .report import documents, page, plots, regression, tables
from .report.text import conditions

CHECK = Settings(rounds=5, seconds=1.0)


def main() -> int:
    """Do what is asked; returns the exit status."""
    arguments = command_line.parse()

    def perform() -> int:
        try:
            return ACTIONS[arguments.action](arguments)
        except (RuntimeError, OSError) as problem:
            print(f"error: {problem}", file=sys.stderr)
            return 1

    # A package manager may start services, which are not to end with this program.
    run = interruption.interruptible if arguments.action == "--install-peers" else interruption.contained
    return run(perform)


def install(_: argparse.Namespace) -> int:
    """Install what is missing."""
    problems = installation.install()
    print("\n".join(problems) or "everything is installed")
    return 1 if problems else 0


def name_cases(_: argparse.Namespace) -> int:
    """Say what can be measured, and on what."""
    for name, case in CASES.items():
        print(f"{name:16} {case.title}\n{'':16} on {', '.join(case.servers)}")
    return 0


def write_page(arguments: argparse.Namespace) -> int:
    """Write the committed figures into the page, and draw them."""
    if arguments.plots:
        with page.figures() as document:
            plots.draw(document, arguments.plots)
    page.write()
    return 0


def count_floor(arguments: argparse.Namespace) -> int:
    """Count system calls."""
    output = documents.Output(arguments.json)
    document = floor.count()
    output.say(floor.table(document))
    output.write(document)
    return 0


def profile_functions(arguments: argparse.Namespace) -> int:
    """Sample functions."""
    output = documents.Output(arguments.json)
    document = profiling.profile()
    output.say(profiling.table(document))
    output.write(document)
    return 0


def measure_isolation(arguments: argparse.Namespace) -> int:
    """What disturbances cost those who have nothing to do with them."""
    output = documents.Output(arguments.json)
    profile = QUICK if arguments.quick else Profile()
    profile = replace(profile, rounds=arguments.rounds or profile.rounds, seconds=arguments.seconds or profile.seconds)
    about = conditions_of(quick=arguments.quick)
    document = isolation.run(profile, about)
    output.say(isolation.text(document))
    output.write(document)
    return 0 if isolation.reached(document) else 1


def measure(arguments: argparse.Namespace) -> int:
    """Measure cases, print them, and write what was asked for."""
    output = documents.Output(arguments.json)
    if arguments.plots:
        plots.ensure_possible(arguments.plots)
    settings = settings_of(arguments, Settings(rounds=1, seconds=0.3, quick=True) if arguments.quick else Settings())
    about = conditions_of(quick=arguments.quick)
    if arguments.without_speed:
        results = without_speed(arguments.names, settings)
    else:
        results = runner.run([CASES[name] for name in arguments.names], settings, frozenset(arguments.server or ()))
    document = {"conditions": about, "profile": "quick" if arguments.quick else "full", "cases": results}
    output.say(tables.text(results))
    output.say("\n" + "\n".join(f"{name}: {value}" for name, value in about.items()))
    output.write(document)
    if arguments.plots:
        for path in plots.draw(document, arguments.plots):
            output.say(f"drawn: {path}")
    return 1 if any(is_ours(name) for result in results.values() for name in result["failed"]) else 0


def conditions_of(*, quick: bool) -> dict[str, str]:
    """Where and with what is measured. What is no mere try begins with memory that the machine really has."""
    about = conditions()
    return about if quick else about | {"memory": memory.touch()}


def settings_of(arguments: argparse.Namespace, defaults: Settings) -> Settings:
    """How long and how much."""
    return replace(defaults, rounds=arguments.rounds or defaults.rounds, seconds=arguments.seconds or defaults.seconds)


def without_speed(names: Sequence[str], settings: Settings) -> dict[str, Any]:
    """The same cases with and without the extra `speed`, side by side, without peers."""
    chosen = [CASES[name] for name in names if "wsrelay" in CASES[name].servers]
    pairs = [replace(case, servers=("wsrelay", "wsrelay-plain"), marks=()) for case in chosen]
    return runner.run(pairs, settings)


def check(arguments: argparse.Namespace) -> int:
    """The regression check. What it compares with is read before anything is measured."""
    output = documents.Output(arguments.json)
    committed = None
    if arguments.accept:
        documents.ensure_writable(regression.COMMITTED)
    else:
        committed = regression.read(regression.COMMITTED)
    about = conditions_of(quick=False)
    only = frozenset({regression.OWN, regression.PEER})
    results = runner.run([CASES[name] for name in regression.CASES], settings_of(arguments, CHECK), only)
    output.write({"conditions": about, "profile": "check", "cases": results})
    found = regression.ratios(results)
    committed = committed or regression.accept(found, about["commit"], regression.COMMITTED)
    text, passed = regression.check(found, committed)
    output.say(text)
    return 0 if passed else 1


ACTIONS = {
    "--install-peers": install,
    "--list": name_cases,
    "--check": check,
    "floor": count_floor,
    "isolation": measure_isolation,
    "page": write_page,
    "profile": profile_functions,
    "cases": measure,
}

if __name__ == "__main__":
    sys.exit(main())
