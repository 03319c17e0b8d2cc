"""Which processors there are, asked of the real kernel."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from wsrelay.kernel.shell.machine import allowed_processors


def test_the_processors_that_are_allowed_are_more_than_those_one_runs_on() -> None:
    before = os.sched_getaffinity(0)
    every = allowed_processors()
    assert before <= every
    if len(every) == 1:
        pytest.skip("needs two processors, this machine allows one")
    os.sched_setaffinity(0, {min(every)})
    try:
        assert allowed_processors() == every
        assert os.sched_getaffinity(0) == {min(every)}  # to ask changes nothing for who asks
    finally:
        os.sched_setaffinity(0, before)


def test_without_a_thread_to_ask_it_is_those_that_one_runs_on() -> None:
    """A reload that finds none ends with a refusal, or without need of one, but not with the runtime."""
    program = (
        "import os, resource\n"
        "from wsrelay.kernel.shell.machine import allowed_processors\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * os.sysconf('SC_PAGE_SIZE') + (2 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size, size))  # no room for a thread's stack\n"
        "assert allowed_processors() == os.sched_getaffinity(0)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
