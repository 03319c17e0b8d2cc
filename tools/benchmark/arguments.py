"""The arguments of tools/bench: what there is, and what goes with what. An option that would do nothing is an error."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from .cases.every import CASES
from .peers.registry import OURS, PEERS
from .report import page, regression

GROUPS = {"all": tuple(CASES), "echo": tuple(name for name in CASES if name.partition("-")[0] == "echo")}
COMMITTED = {"all": page.FIGURES, "floor": page.FLOOR, "isolation": page.ISOLATION, "profile": page.PROFILE}
"""Where `--json` without a file writes."""
ALONE = ("floor", "isolation", "page", "profile")
KNOWN = tuple(dict.fromkeys([*GROUPS, *CASES, *ALONE]))
DEFAULT = "echo"
OPTIONS = ("quick", "rounds", "seconds", "server", "without_speed", "json", "plots", "accept")
GOES_WITH = {
    "--install-peers": frozenset[str](),
    "--list": frozenset[str](),
    "--check": frozenset({"rounds", "seconds", "json", "accept"}),
    "floor": frozenset({"json"}),
    "isolation": frozenset({"quick", "rounds", "seconds", "json"}),
    "page": frozenset({"plots"}),
    "profile": frozenset({"json"}),
    "cases": frozenset({"quick", "rounds", "seconds", "server", "without_speed", "json", "plots"}),
}
"""What each thing that tools/bench does makes of the options."""


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line. `action` is one of `GOES_WITH`, `names` the cases to measure. Ends the process with status 2 if it
    is wrong."""
    parser = _parser()
    arguments = parser.parse_args(given)
    for what in arguments.what:
        if what not in KNOWN:
            parser.error(f"expected one of {', '.join(KNOWN)}, got {what!r}")
    arguments.action = _action(arguments, parser.error)
    for option in OPTIONS:
        if getattr(arguments, option) not in (None, False) and option not in GOES_WITH[arguments.action]:
            fitting = [action for action, options in GOES_WITH.items() if option in options]
            parser.error(f"{_spelt(option)} goes with {' and '.join(fitting)}, and not with {arguments.action}")
    arguments.names = []
    if arguments.action == "cases":
        arguments.what = arguments.what or [DEFAULT]
        arguments.names = list(dict.fromkeys(name for what in arguments.what for name in GROUPS.get(what, (what,))))
        _check_servers(arguments, parser.error)
    _choose_file(arguments, parser.error)
    return arguments


def _action(arguments: argparse.Namespace, error: Callable[[str], NoReturn]) -> str:
    """What is asked for."""
    actions = [_spelt(name) for name in ("install_peers", "list", "check") if getattr(arguments, name)]
    actions += [what for what in arguments.what if what in ALONE]
    if not actions:
        return "cases"
    if len(actions) > 1:
        error(f"{' and '.join(actions)}: one at a time")
    [action] = actions
    if cases := [what for what in arguments.what if what not in ALONE]:
        own = f" measures {', '.join(regression.CASES)}, and" if action == "--check" else ""
        error(f"{action}{own} stands alone, without {' '.join(cases)}")
    return action


def _check_servers(arguments: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    """That every case that is named has something to measure, and every server that is named a case."""
    wanted = arguments.server or list(PEERS)
    if arguments.without_speed:
        if arguments.server:
            error("--without-speed measures this runtime beside itself, and no --server")
        wanted = [OURS]
    elif "wsrelay-plain" in wanted and arguments.server:
        error("wsrelay-plain is measured by --without-speed")
    for name in arguments.what:
        if name in CASES and name not in GROUPS and not set(wanted) & set(CASES[name].servers):
            error(f"{name} is measured on {', '.join(CASES[name].servers)}, and not on {', '.join(wanted)}")
    for server in arguments.server or ():
        if not any(server in CASES[name].servers for name in arguments.names):
            error(f"{server} does not do {', '.join(arguments.what)}; --list says who does")


def _choose_file(arguments: argparse.Namespace, error: Callable[[str], NoReturn]) -> None:
    """Where the document goes. A case after `--json` is no file, and what is not all of a page has no committed one."""
    if arguments.json is None:
        return
    if arguments.json in KNOWN:
        error(f"--json {arguments.json}: a file was expected; write '{arguments.json} --json'")
    if not arguments.json:
        what = arguments.what[0] if len(arguments.what) == 1 else ""
        if what not in COMMITTED or arguments.quick or arguments.server or arguments.without_speed:
            error(f"--json needs a FILE, except with all of {', '.join(COMMITTED)}")
        arguments.json = COMMITTED[what]
    arguments.json = Path(arguments.json)


def _spelt(option: str) -> str:
    return "--" + option.replace("_", "-")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/bench",
        description="Measure this runtime beside its peers, in interleaved rounds.",
        epilog="'floor' counts system calls with strace; 'profile' says with py-spy in which functions the time goes; "
        "'isolation' disturbs the runtime, and measures those who have nothing to do with it; "
        "'page' writes figures.json in docs/performance and theirs into the page there.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("what", nargs="*", metavar="CASE", help=f"one or more of {', '.join(KNOWN)} (default {DEFAULT})")
    add("--list", action="store_true", help="say what each case is, and on which servers it is measured")
    add("--install-peers", action="store_true", help="install the peers that are missing (apt-get, npm, pip)")
    add("--quick", action="store_true", help="one short round: shows that everything works")
    add("--rounds", type=count, help="default 5; of isolation 3")
    add("--seconds", type=duration, help="of each server in each round (default 1.5; of --check 1, of isolation 10)")
    add("--server", action="append", choices=PEERS, help="only this one; may be repeated")
    add("--without-speed", action="store_true", help="this runtime with and without its extra 'speed'")
    written = f"write the results there; '-': standard output; default with {', '.join(COMMITTED)}: docs/performance"
    add("--json", nargs="?", const="", metavar="FILE", help=written)
    folder = "draw plots (default docs/performance)"
    add("--plots", type=Path, nargs="?", const=page.FOLDER, metavar="FOLDER", help=folder)
    add("--check", action="store_true", help="fail if CPU per message got worse, beside a peer")
    add("--accept", action="store_true", help="with --check: make the present ratios the ones to keep")
    return parser


def count(text: str) -> int:
    """A whole number from 1."""
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
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
