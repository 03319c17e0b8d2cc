"""Whether and when a service comes back: the arithmetic of S36 to S38."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsrelay.kernel.core.restarts import NO_PAST, Past, backoff, plan_restart, wants_restart
from wsrelay.kernel.wire.configuration import Restart
from wsrelay.kernel.wire.reason import make_reason

EXACT = Restart(jitter=0.0)
POLICIES = st.builds(
    Restart,
    initial_delay=st.floats(0, 10),
    max_delay=st.floats(10, 100),
    backoff_factor=st.floats(1, 4),
    jitter=st.floats(0, 1),
    intensity=st.integers(0, 5),
    period=st.floats(0.1, 50),
)
RANDOM = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("type", "expected"),
    [("permanent", [True, True, True, True]), ("transient", [False, False, True, True]), ("temporary", [False] * 4)],
)
def test_types(type: str, expected: list[bool]) -> None:  # S36
    kinds = ["normal", "cancelled", "killed", "signal:SIGSEGV"]
    assert [wants_restart(Restart(type), make_reason(kind)) for kind in kinds] == expected


def test_the_delays_of_the_defaults() -> None:  # S38
    assert [backoff(EXACT, k, 0.3) for k in (1, 2, 3, 7, 8, 9, 5000)] == [1, 2, 4, 64, 90, 90, 90]


def test_jitter_is_a_share_of_the_delay_on_both_sides() -> None:  # S38
    policy = Restart(initial_delay=10.0, jitter=0.2)
    assert [backoff(policy, 1, random) for random in (0.0, 0.5, 1.0)] == [8, 10, 12]


def test_no_delay_stays_no_delay() -> None:
    assert {backoff(Restart(initial_delay=0.0), k, 0.9) for k in (1, 2, 5000)} == {0.0}


@given(policy=POLICIES, attempt=st.integers(1, 10_000), random=RANDOM)
def test_every_delay_is_around_the_formula(policy: Restart, attempt: int, random: float) -> None:  # S38
    exact = policy.initial_delay
    for _ in range(attempt - 1):
        exact = min(policy.max_delay, exact * policy.backoff_factor)
    assert exact * (1 - policy.jitter) - 1e-6 <= backoff(policy, attempt, random) <= exact * (1 + policy.jitter) + 1e-6


@given(policy=POLICIES, lives=st.lists(st.tuples(st.floats(0, 20), st.booleans(), RANDOM), max_size=30))
def test_no_period_sees_more_restarts_than_the_intensity(
    policy: Restart, lives: list[tuple[float, bool, float]]
) -> None:  # S37
    now, past, restarts = 0.0, NO_PAST, []
    for life, stable, random in lives:
        now += life
        comeback = plan_restart(policy, past, stable=stable, now=now, random=random)
        if comeback is None:
            due = now + backoff(policy, 1 if stable else past.attempt + 1, random)
            assert sum(due - policy.period < time for time in restarts) >= policy.intensity, "given up too early"
            return
        assert comeback.past.attempt == (1 if stable else past.attempt + 1)
        now, past = comeback
        restarts.append(now)
        for end in restarts:
            assert sum(end - policy.period < time <= end for time in restarts) <= policy.intensity


def test_the_window_slides() -> None:  # S37
    policy = Restart(initial_delay=0.0, intensity=2, period=10.0)

    def at(now: float, *restarts: float) -> bool:
        return plan_restart(policy, Past(1, restarts), stable=False, now=now, random=0.5) is not None

    assert at(9.0, 0.0)
    assert not at(9.0, 0.0, 5.0)
    assert at(10.0, 0.0, 5.0)
    assert not at(14.0, 5.0, 10.0)
    slow = Restart(initial_delay=4.0, jitter=0.0, intensity=1, period=5.0)
    assert plan_restart(slow, Past(0, (0.0,)), stable=False, now=2.0, random=0.5) is not None, "6 s after the last one"
