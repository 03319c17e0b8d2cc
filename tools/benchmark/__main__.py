"""The command line of tools/bench."""

from __future__ import annotations

import argparse
import json
import sys

from . import crash, echo
from .report import conditions


def main() -> int:
    """Measure and print; returns the exit status."""
    arguments = parse_arguments()
    try:
        if arguments.measurement == "echo":
            path = "/ws/own" if arguments.own else "/ws/shared"
            peers = arguments.peer or ["uvicorn-wsproto"]
            result = echo.run(arguments.case, arguments.rounds, arguments.seconds, peers, path)
            text = echo.table(result)
        else:
            result = crash.run(arguments.kills)
            text = crash.table(result)
    except (RuntimeError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    result["conditions"] = conditions()
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        print(text)
        print()
        print("\n".join(f"{name}: {value}" for name, value in result["conditions"].items()))
    return 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="tools/bench",
        description="Measure this runtime beside its peers.",
        epilog="`tools/bench echo --help` and `tools/bench crash --help` say what can be changed.",
    )
    measurements = parser.add_subparsers(dest="measurement", required=True)
    one = measurements.add_parser("echo", help="messages per second and CPU per message")
    one.add_argument("--case", type=case, default="64x16x8", help="BYTESxCONNECTIONSxIN_FLIGHT (default %(default)s)")
    one.add_argument("--rounds", type=count, default=5, help="default %(default)s")
    one.add_argument("--seconds", type=duration, default=2.0, help="of each server in each round (default %(default)s)")
    one.add_argument("--peer", action="append", choices=echo.PEERS, help="may be repeated (default uvicorn-wsproto)")
    one.add_argument("--own", action="store_true", help="a worker for each connection, instead of one for all")
    other = measurements.add_parser("crash", help="from SIGKILL of a worker to the close frame at its client")
    other.add_argument("--kills", type=count, default=200, help="default %(default)s")
    for measurement in (one, other):
        measurement.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


def case(text: str) -> echo.Case:
    """A `--case`, with a message that says what was expected."""
    try:
        return echo.Case.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected BYTESxCONNECTIONSxIN_FLIGHT such as 64x16x8, got {text!r}"
        ) from None


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
