"""The command line of tools/soak."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time

from .program import Program, draw, parse
from .report import Report, failure, slow
from .stage import Stage

LENGTH = 60
"""Operations of a program."""
MOST_FAILURES = 10
SAY_EVERY = 20.0
"""Seconds between two lines of progress."""


def main() -> int:
    """Soak, and print; returns the exit status."""
    arguments = parse_arguments()
    # As an exception, so that no runtime is left.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    source = random.Random(arguments.seed)
    report = Report(arguments.seed)
    given: list[Program] = [arguments.program] * arguments.times if arguments.program is not None else []
    begun = said = time.monotonic()
    with Stage() as stage:
        while len(report.failures) < MOST_FAILURES:
            elapsed = time.monotonic() - begun
            if arguments.program is not None:
                if not given:
                    break
                program = given.pop()
            elif report.faults >= arguments.faults or elapsed > arguments.minutes * 60:
                break
            else:
                program = draw(source, LENGTH)
            outcome = stage.perform(program)
            report.add(outcome)
            if outcome.failed:
                print(failure(arguments.seed, outcome), flush=True)
            if arguments.slow and outcome.slow:
                print(slow(outcome), flush=True)
            if time.monotonic() - said > SAY_EVERY:
                said = time.monotonic()
                print(f"{report.faults} faults in {said - begun:.0f} s", file=sys.stderr, flush=True)
    print(report.text())
    print(f"seed {arguments.seed}, {time.monotonic() - begun:.0f} s")
    return 1 if report.failed else 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="tools/soak",
        description="Perform random programs with faults on a real runtime, and check the fifteen invariants after each.",
    )
    parser.add_argument("--faults", type=int, default=10_000, help="how many to inject (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same programs for the same seed (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="at most (default %(default)s)")
    parser.add_argument("--program", type=_program, help="perform this one, as a failure has printed it")
    parser.add_argument("--times", type=int, default=1, help="how often, with --program (default %(default)s)")
    parser.add_argument("--slow", action="store_true", help="tell the story of each fault that shows late")
    return parser.parse_args()


def _program(text: str) -> Program:
    try:
        return parse(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


if __name__ == "__main__":
    sys.exit(main())
