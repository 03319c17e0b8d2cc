"""The command line of tools/bench."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import floor, interruption, profiling, runner
from .cases.every import CASES
from .cases.model import Settings
from .isolation import command as isolation
from .isolation.profile import QUICK, Profile
from .peers import installation
from .peers.registry import PEERS, is_ours
from .report import page, plots, regression, tables
from .report.text import conditions

GROUPS = {"all": tuple(CASES), "echo": tuple(name for name in CASES if name.partition("-")[0] == "echo")}
ALONE = frozenset({"floor", "isolation", "page", "profile"})
CHECK = Settings(rounds=5, seconds=1.0)


def main() -> int:
    """Do what is asked; returns the exit status."""
    arguments = parse_arguments()

    def inside() -> int:
        try:
            return perform(arguments)
        except (RuntimeError, OSError) as problem:
            print(f"error: {problem}", file=sys.stderr)
            return 1

    # A package manager may start services, which are not to end with this program.
    run = interruption.interruptible if arguments.install_peers else interruption.contained
    return run(inside)


def perform(arguments: argparse.Namespace) -> int:
    """One of the things that tools/bench does."""
    if arguments.install_peers:
        problems = installation.install()
        print("\n".join(problems) or "everything is installed")
        return 1 if problems else 0
    if arguments.list:
        print("\n".join(f"{name:16} {case.title}" for name, case in CASES.items()))
        return 0
    if arguments.check:
        return check(arguments.accept)
    if arguments.what == ["page"]:
        if arguments.plots:
            plots.draw(json.loads(page.FIGURES.read_text()), arguments.plots)
        page.write()
        return 0
    if arguments.what in (["floor"], ["profile"]):
        counts = arguments.what == ["floor"]
        document = floor.count() if counts else profiling.profile()
        print(floor.table(document) if counts else profiling.table(document))
        if arguments.json:
            write_json(arguments.json, document)
        return 0
    if arguments.what == ["isolation"]:
        return measure_isolation(arguments)
    return measure(arguments)


def measure_isolation(arguments: argparse.Namespace) -> int:
    """What disturbances cost those who have nothing to do with them."""
    profile = QUICK if arguments.quick else Profile()
    profile = replace(profile, rounds=arguments.rounds or profile.rounds, seconds=arguments.seconds or profile.seconds)
    document = isolation.run(profile)
    print(isolation.text(document))
    if arguments.json:
        write_json(arguments.json, document)
    return 0 if isolation.reached(document) else 1


def measure(arguments: argparse.Namespace) -> int:
    """Measure cases, print them, and write what was asked for."""
    settings = settings_of(arguments)
    about = conditions()
    only = frozenset(arguments.server or ())
    names = list(dict.fromkeys(name for what in arguments.what for name in GROUPS.get(what, (what,))))
    if arguments.without_speed:
        results = without_speed(names, settings)
    else:
        results = runner.run([CASES[name] for name in names], settings, only)
    document = {"conditions": about, "profile": "quick" if arguments.quick else "full", "cases": results}
    print(tables.text(results))
    print()
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    if arguments.json:
        write_json(arguments.json, document)
    if arguments.plots:
        for path in plots.draw(document, arguments.plots):
            print(f"drawn: {path}")
    return 1 if any(is_ours(name) for result in results.values() for name in result["failed"]) else 0


def settings_of(arguments: argparse.Namespace) -> Settings:
    """How long and how much."""
    defaults = Settings(rounds=1, seconds=0.3, quick=True) if arguments.quick else Settings()
    return Settings(arguments.rounds or defaults.rounds, arguments.seconds or defaults.seconds, arguments.quick)


def without_speed(names: Sequence[str], settings: Settings) -> dict[str, Any]:
    """The same cases with and without the extra `speed`, side by side, without peers."""
    chosen = [CASES[name] for name in names if "wsrelay" in CASES[name].servers]
    pairs = [replace(case, servers=("wsrelay", "wsrelay-plain"), marks=()) for case in chosen]
    return runner.run(pairs, settings)


def check(accept: bool) -> int:
    """The regression check."""
    only = frozenset({regression.OWN, regression.PEER})
    results = runner.run([CASES[name] for name in regression.CASES], CHECK, only)
    found = regression.ratios(results)
    if accept:
        regression.accept(found, conditions()["commit"])
    text, passed = regression.check(found)
    print(text)
    return 0 if passed else 1


def write_json(path: Path, document: Any) -> None:
    """Write a document; `-` is standard output."""
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    if str(path) == "-":
        print(text, end="")
    else:
        path.write_text(text)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="tools/bench",
        description="Measure this runtime beside its peers, in interleaved rounds.",
        epilog="'floor' counts system calls with strace; 'profile' says with py-spy in which functions the time goes; 'page' writes "
        "docs/performance/figures.json and theirs into the page there; "
        "'isolation' disturbs the runtime, and measures those who have nothing to do with it.",
    )
    known = [*GROUPS, *CASES, *sorted(ALONE)]
    parser.add_argument("what", nargs="*", default=["echo"], metavar="CASE", help=f"one or more of {', '.join(known)}")
    parser.add_argument("--list", action="store_true", help="say what each case is")
    parser.add_argument(
        "--install-peers", action="store_true", help="install the peers that are missing (apt-get, npm, pip)"
    )
    parser.add_argument("--quick", action="store_true", help="one short round: shows that everything works")
    parser.add_argument("--rounds", type=count, help="default 5")
    parser.add_argument("--seconds", type=duration, help="of each server in each round (default 1.5)")
    parser.add_argument("--server", action="append", choices=PEERS, help="only this one; may be repeated")
    parser.add_argument("--without-speed", action="store_true", help="this runtime with and without its extra 'speed'")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too; '-': standard output")
    parser.add_argument(
        "--plots",
        type=Path,
        nargs="?",
        const=page.FOLDER,
        metavar="FOLDER",
        help="draw plots (default docs/performance)",
    )
    parser.add_argument("--check", action="store_true", help="fail if CPU per message got worse, beside a peer")
    parser.add_argument("--accept", action="store_true", help="with --check: make the present ratios the ones to keep")
    arguments = parser.parse_args()
    for what in arguments.what:
        if what not in known:
            parser.error(f"expected one of {', '.join(known)}, got {what!r}")
    if ALONE & set(arguments.what) and len(arguments.what) > 1:
        parser.error("'floor', 'isolation', 'page' and 'profile' stand alone")
    return arguments


def count(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def duration(text: str) -> float:
    """Seconds, more than none."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < 86400:
        raise argparse.ArgumentTypeError(f"expected a number of seconds, got {text!r}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
