"""The pytest plugin: the fixture `wsrelay_runtime`, and the log of a runtime with the report of a test that failed.

Loaded in every pytest run of an environment that has wsrelay, so it imports pytest alone, and does nothing until the fixture is
asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .runtime import Runtime

_RUNNING: pytest.StashKey[list[Runtime]] = pytest.StashKey()


@pytest.fixture
def wsrelay_runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Runtime]]:
    """A function that starts a runtime: `wsrelay_runtime(Path("app"))`, or with entries and sources. Its arguments are those of
    `wsrelay.tools.faults.running_runtime`. When the test is over each one is checked, stopped, and checked again: what is
    left of processes, descriptors, files, monitors or timers fails the test, and so does what the test itself leaves open.

    Their folder is `tmp_path`, save where a host has a `user`: pytest closes it to other users.

    In a Hypothesis test, which runs many times, use `running_runtime`, or a fixture of your own with a wider scope around it.
    """
    from .applications import users_of
    from .hygiene import nothing_left_behind
    from .running import running_runtime

    running = request.node.stash.setdefault(_RUNNING, [])
    with nothing_left_behind(), contextlib.ExitStack() as stack:

        def start(application: Any, *arguments: Any, **options: Any) -> Runtime:
            if not users_of(application):
                options = {"folder": tmp_path, **options}
            runtime = stack.enter_context(running_runtime(application, *arguments, **options))
            running.append(runtime)
            return runtime

        yield start


@pytest.hookimpl(hookwrapper=True)  # the old style, which older pytest know too: this is loaded everywhere
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, None]:
    """Add the log of each runtime, and how to repeat what Hypothesis drew, to the report of a test that failed."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    running = item.stash.get(_RUNNING, [])
    if report.failed and running:
        for runtime in running:
            runtime.strict = False  # what a test left that was cut short is no news
            with contextlib.suppress(FileNotFoundError):  # pytest may have removed it
                report.sections.append((f"log of the runtime in {runtime.folder}", runtime.log_end()))
        seed = item.config.getoption("--hypothesis-seed", default=None)
        report.sections.append(("wsrelay", f"Hypothesis seed: {seed or 'not fixed'} (repeat with --hypothesis-seed=N)"))
