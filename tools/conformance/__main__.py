"""The command line of tools/autobahn. Exit status 0: conformant; 1: not, or it could not be found out."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmark.peers.process import running_wsrelay

from . import suite, verdict

QUICK = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
ALL = [*QUICK, "9.*"]
COMPRESSION = [
    f"{group}.{sub}.{case}"
    for group, subs in ((12, 5), (13, 7))
    for sub in range(1, subs + 1)
    for case in (1, 7, 11, 15)
]
"""A sample; all 216 cases of groups 12 and 13 take a quarter of an hour."""

APPLICATION = Path(__file__).parent / "application"
TIMEOUT = 1800.0


def main() -> int:
    """Run what was asked for, print the table, return the exit status."""
    arguments = parse_arguments()
    # As an exception, so that the runtime is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if arguments.install:
            suite.install()
            print(f"the Autobahn Testsuite is installed: {suite.COMMAND}")
            return 0
        if not suite.is_installed():
            raise suite.SuiteError("the Autobahn Testsuite is not installed: 'tools/autobahn --install' installs it")
        cases = arguments.case or (COMPRESSION if arguments.compression else QUICK if arguments.quick else ALL)
        return judge(cases, arguments)
    except (suite.SuiteError, RuntimeError, OSError, ValueError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1


def judge(cases: list[str], arguments: argparse.Namespace) -> int:
    """Run these cases against a runtime of its own; returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="wsrelay-autobahn-") as name:
        folder = Path(name)
        application = folder / "application"
        shutil.copytree(APPLICATION, application)
        index = application / "_index.yaml"
        if arguments.compression:
            index.write_text(index.read_text().replace("compression: false", "compression: true"))
        start = time.monotonic()
        with running_wsrelay(application) as server:
            found = verdict.read(suite.run(f"ws://127.0.0.1:{server.port}/", cases, folder, TIMEOUT))
        seconds = time.monotonic() - start
        if arguments.reports:
            shutil.copytree(folder / "reports", arguments.reports, dirs_exist_ok=True)
    print(verdict.table(found))
    problems = verdict.problems(found, arguments.non_strict)
    for problem in problems:
        print(problem)
    outcome = "not conformant" if problems else "conformant"
    print(f"{outcome}: {len(found)} cases in {seconds:.0f} s")
    return 1 if problems else 0


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="tools/autobahn",
        description="Run groups 1-7, 9 and 10 of the Autobahn Testsuite against an echo through a worker process. "
        f"Nothing may have FAILED, and at most {verdict.NON_STRICT_ALLOWED} cases may be NON-STRICT.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--install", action="store_true", help="install the suite (needs a Python 2.7), and do nothing else"
    )
    what.add_argument("--quick", action="store_true", help="groups 1-7 and 10 only: some seconds")
    what.add_argument(
        "--compression", action="store_true", help="a sample of groups 12 and 13, with compression enabled"
    )
    what.add_argument("--case", action="append", metavar="CASES", help="such as '6.4.*'; may be repeated")
    parser.add_argument(
        "--non-strict", type=int, default=verdict.NON_STRICT_ALLOWED, metavar="N", help="default %(default)s"
    )
    parser.add_argument("--reports", type=Path, metavar="FOLDER", help="keep the suite's own pages there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
