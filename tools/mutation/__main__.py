"""The command line of tools/mutate."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from . import execution
from .catalogue.every import MUTATIONS
from .execution import Outcome
from .model import Mutation, problems

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 240.0
"""Seconds that the tests of one mutation may take."""
ALL_TESTS = ("tests", "--ignore=tests/tools/test_mutate.py")
"""That the list fits the tree is no test of what the tree does."""


def main() -> int:
    """Returns the exit status: 1 if a mutation survived, 2 if the list or a run is broken."""
    arguments = parse_arguments()
    # As an exception, so that the copies are removed; what runs in them ends with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if arguments.list:
        width = max(len(mutation.name) for mutation in MUTATIONS)
        for mutation in MUTATIONS:
            print(f"{mutation.name:{width}}  {mutation.rule:12}  {mutation.file}  {' '.join(mutation.tests)}")
        return 0
    if wrong := problems(ROOT, MUTATIONS):
        print("\n".join(f"error: {problem}" for problem in wrong), file=sys.stderr)
        return 2
    wanted = set(arguments.name)
    chosen = [mutation for mutation in MUTATIONS if not wanted or mutation.name in wanted]
    outcomes = run_all(chosen, ALL_TESTS if arguments.all_tests else (), arguments.jobs, arguments.limit)
    print(table(outcomes))
    return exit_status(outcomes)


def run_all(mutations: Sequence[Mutation], tests: Sequence[str], jobs: int, limit: float) -> list[Outcome]:
    """First the tests on the tree as it is, then each mutation. `tests`: these instead of each mutation's own."""
    with execution.copy_of(ROOT) as base:
        together = tests or list(dict.fromkeys(test for mutation in mutations for test in mutation.tests))
        unchanged = execution.run_unchanged(base, together, jobs, limit * max(1, len(together)))
        print(f"{execution.UNCHANGED}: {unchanged.seconds:.0f} s", file=sys.stderr, flush=True)
        if unchanged.verdict != "survived":
            return [Outcome(execution.UNCHANGED, "", "broken", f"fails as it is: {unchanged.by}", unchanged.seconds)]
        done = {}
        pool = ThreadPoolExecutor(jobs)
        try:
            runs = {
                pool.submit(execution.run, base, mutation, tests or mutation.tests, limit): mutation
                for mutation in mutations
            }
            for future in as_completed(runs):
                outcome = done[runs[future].name] = future.result()
                said = f"{outcome.name}: {outcome.verdict}, {outcome.seconds:.0f} s, {outcome.by}"
                print(said, file=sys.stderr, flush=True)
        finally:  # also when this is interrupted
            pool.shutdown(wait=False, cancel_futures=True)
            execution.stop()
            pool.shutdown()
    return [done[mutation.name] for mutation in mutations]


def table(outcomes: Sequence[Outcome]) -> str:
    """What came of all of them, in columns."""
    rows = [("mutation", "rule", "caught by", "seconds")]
    for outcome in outcomes:
        by = outcome.by if outcome.verdict == "caught" else f"{outcome.verdict.upper()}: {outcome.by}"
        rows.append((outcome.name, outcome.rule, by, f"{outcome.seconds:.1f}"))
    widths = [max(len(row[column]) for row in rows if "\n" not in row[column]) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    counts = {verdict: sum(one.verdict == verdict for one in outcomes) for verdict in ("caught", "survived", "broken")}
    return "\n".join([*lines, "", ", ".join(f"{count} {verdict}" for verdict, count in counts.items())])


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """1 if a mutation survived, 2 if the tests of one could not be run."""
    verdicts = {outcome.verdict for outcome in outcomes}
    return 2 if "broken" in verdicts else 1 if "survived" in verdicts else 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="tools/mutate",
        description="Break one rule at a time in a copy of the tree, and report which test sees it.",
        epilog="The exit status is 1 if a mutation survives, 2 if the list does not fit the tree or a test fails without it.",
    )
    parser.add_argument("name", nargs="*", metavar="NAME", help="only these mutations")
    parser.add_argument("--list", action="store_true", help="say which there are")
    parser.add_argument("--all-tests", action="store_true", help="run every test, not only those that a mutation names")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="at a time; default: as many as processors"
    )
    parser.add_argument(
        "--limit", type=float, default=LIMIT, help="seconds for one mutation's tests, default %(default)g"
    )
    arguments = parser.parse_args()
    names = {mutation.name for mutation in MUTATIONS}
    for name in arguments.name:
        if name not in names:
            parser.error(f"there is no mutation {name!r}: see tools/mutate --list")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
