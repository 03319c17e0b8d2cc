"""The plan of a drain."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsrelay.gateway.core.drain import BATCH_INTERVAL, plan_batches

counts = st.integers(0, 30_000)


@given(counts, st.integers(1, 5000), st.floats(0, 60), st.randoms(use_true_random=False))
def test_everybody_is_closed_once_in_time(count: int, batch: int, within: float, source: random.Random) -> None:
    plan = plan_batches(count, batch, within, source.random)
    delays = [delay for delay, _ in plan]
    assert sum(size for _, size in plan) == count
    assert all(size > 0 for _, size in plan)
    assert delays == sorted(delays)
    assert all(0 <= delay <= within for delay in delays)
    if count:
        assert delays[0] == 0


@given(counts, st.integers(1, 5000), st.randoms(use_true_random=False))
def test_batches_are_as_asked_if_there_is_time(count: int, batch: int, source: random.Random) -> None:
    enough = count / batch * BATCH_INTERVAL + 1
    plan = plan_batches(count, batch, enough, source.random)
    assert all(size <= batch for _, size in plan)
    assert len(plan) == -(-count // batch)


@pytest.mark.parametrize(("count", "batches"), [(20_000, 100), (1000, 5), (200, 1), (0, 0)])
def test_the_defaults(count: int, batches: int) -> None:
    assert len(plan_batches(count, 200, 10.0, lambda: 0.5)) == batches
