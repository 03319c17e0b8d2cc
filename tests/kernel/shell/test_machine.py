"""Which processors there are, asked of the real kernel."""

from __future__ import annotations

import os

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
