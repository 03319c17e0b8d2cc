"""Copies the tree, applies a mutation, runs its tests, and reads which one failed.

The copy is found as the package `wsrelay` before the installed one, in every process: PYTHONPATH leads to a folder with links
into the copy, laid out as setup.cfg says.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .contained import TIME_IS_UP
from .model import Mutation

PACKAGES = ("kernel", "gateway", "workers", "tools/faults")
SEED = "1"
"""As `tools/test` has it."""
UNCHANGED = "(nothing changed)"
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".tools", ".hypothesis", ".*_cache", "*.egg-info")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
_TESTS_FAILED = 1
_running: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True)
class Outcome:
    """What came of one mutation."""

    name: str
    rule: str
    verdict: str
    """`caught`, `survived`, or `broken`: the tests could not be run."""
    by: str
    """The first test that failed; otherwise why there is none."""
    seconds: float


@contextmanager
def copy_of(root: Path) -> Iterator[Path]:
    """A copy of a tree in a temporary folder, with the compiled code of the tree it is of."""
    with tempfile.TemporaryDirectory(prefix="wsrelay-mutate-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(root, copy, ignore=_LEFT_OUT, symlinks=True)
        yield copy


def run(root: Path, mutation: Mutation, tests: Sequence[str], limit: float) -> Outcome:
    """Apply a mutation to a copy of `root` and run the tests until the first fails. `limit` is in seconds."""
    with copy_of(root) as copy:
        target = copy / mutation.file
        target.write_text(mutation.apply(target.read_text()))
        for compiled in target.parent.glob(f"__pycache__/{target.stem}.*.pyc"):
            compiled.unlink()  # two texts of one size, written within a second, look the same to Python
        start = time.monotonic()
        status, output = _pytest(copy, ["-x", *tests], limit)
        return judge(mutation.name, mutation.rule, status, output, time.monotonic() - start)


def run_unchanged(copy: Path, tests: Sequence[str], jobs: int, limit: float) -> Outcome:
    """Run tests on a copy as it is: a test that fails here catches nothing."""
    start = time.monotonic()
    status, output = _pytest(copy, [f"--numprocesses={jobs}", "--dist=loadfile", *tests], limit)
    return judge(UNCHANGED, "", status, output, time.monotonic() - start)


def judge(name: str, rule: str, status: int, output: str, seconds: float) -> Outcome:
    """Read pytest's exit status and its summary."""
    failed = _FAILED.search(output)
    if status == 0:
        return Outcome(name, rule, "survived", "no test fails", seconds)
    if status == TIME_IS_UP:
        return Outcome(name, rule, "caught", "the time limit: a test waits for ever", seconds)
    if status == _TESTS_FAILED and failed is not None:
        return Outcome(name, rule, "caught", failed[1], seconds)
    return Outcome(name, rule, "broken", f"pytest ended with {status}:\n{output[-2000:]}", seconds)


def _pytest(copy: Path, arguments: Sequence[str], limit: float) -> tuple[int, str]:
    site = copy / ".site"
    for package in PACKAGES:
        link = site / "wsrelay" / package
        if (copy / package).is_dir() and not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(copy / package, link.parent))  # a copy of the copy has its own
    # Failures are not made smaller: that one fails is all that counts.
    environment = {**os.environ, "PYTHONPATH": str(site), "WSRELAY_HYPOTHESIS": "unshrunk"}
    tools = Path(__file__).resolve().parents[1]
    pytest = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--tb=no",
        "-rfE",
        "-p",
        "no:cacheprovider",
        f"--hypothesis-seed={SEED}",
    ]
    command = [sys.executable, str(tools / "mutation" / "contained.py"), str(limit), *pytest, *arguments]
    with tempfile.TemporaryFile("w+b") as log:
        with subprocess.Popen(command, cwd=copy, env=environment, stdout=log, stderr=log) as process:
            _running.add(process)
            try:
                status = process.wait()
            finally:
                _running.discard(process)
        log.seek(0)
        return status, log.read().decode(errors="replace")


def stop() -> None:
    """End what runs, in whatever thread: each kills what it has started first."""
    for process in list(_running):
        process.terminate()
