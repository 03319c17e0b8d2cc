"""The ledger keeps its promise whenever it crashes: docs/testing.md explains this test. `pytest examples/ledger` runs it;
`pytest examples/ledger --runxfail -k careless` shows how the bug is found.
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from wsrelay.tools import faults
from wsrelay.tools.faults import Fault, Runtime, strategies

POINTS = ["deposit.received", "balance.written", "deposit.remembered", "deposit.written", "deposit.made"]
ACCOUNTS = itertools.count(1)
TRIES = 5


@dataclass(frozen=True)
class Deposit:
    """What a client deposits, and what happens meanwhile."""

    amount: int
    fault: Fault | None = None
    point: str = POINTS[0]


DEPOSITS = st.builds(Deposit, st.integers(1, 9), strategies.maybe(strategies.crashes()), st.sampled_from(POINTS))


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """One runtime for all examples: each opens an account of its own."""
    folder = str(tmp_path_factory.mktemp("ledger"))
    with faults.running_runtime(Path(__file__).parent, environment={"LEDGER_FOLDER": folder}) as running:
        yield running


def deposit(runtime: Runtime, path: str, id: str, amount: int) -> int:
    """Deposit as a good client does: send it again, with the same id, until there is an answer. Returns the balance."""
    for _ in range(TRIES):
        try:
            with runtime.connect(path) as client:
                client.send(json.dumps({"id": id, "amount": amount}))
                answer = json.loads(client.recv(timeout=15))
        except ConnectionClosed:
            continue
        assert answer["id"] == id
        return int(answer["balance"])
    raise AssertionError(f"no answer to {id} in {TRIES} tries")


# Each keeper has points of its own: one alone never reaches all of them.
@pytest.mark.filterwarnings("ignore::wsrelay.tools.faults.PointNeverReached")
@pytest.mark.parametrize(
    "keeper", ["careful", pytest.param("careless", marks=pytest.mark.xfail(strict=True, reason="it has a bug"))]
)
@given(deposits=st.lists(DEPOSITS, min_size=1, max_size=3))
@settings(max_examples=25, deadline=None)
def test_each_deposit_counts_once(runtime: Runtime, keeper: str, deposits: list[Deposit]) -> None:
    path = f"/ws/{keeper}/account{next(ACCOUNTS)}"
    balance = 0
    for number, each in enumerate(deposits):
        balance += each.amount
        with runtime.armed(each.point, each.fault):
            assert deposit(runtime, path, f"d{number}", each.amount) == balance
    runtime.check_as_found()
