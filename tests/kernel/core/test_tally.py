"""What is counted of the process table's effects, and that nobody can make it grow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsrelay.kernel.core.effects import ProcessEnded, ServiceChanged, StartWorker
from wsrelay.kernel.core.service_states import State
from wsrelay.kernel.core.tally import USUAL, Tally, reason_label
from wsrelay.kernel.wire.messages import Start
from wsrelay.kernel.wire.pid import Pid
from wsrelay.kernel.wire.reason import LIMITS, make_reason


def pid(owner: str, serial: int = 1) -> str:
    return Pid.make("node", "app:host", "00000000000000aa", owner, serial)


def start(number: int, entry: str) -> StartWorker:
    started = Start(number, pid("s", number) if entry else "", "app:host", entry, "", "", b"", 0)
    return StartWorker(number, "app:host", started)


def test_spawns_and_how_long_they_take() -> None:
    tally = Tally()
    for number, entry in enumerate(["app:room", "app:room", "", "app:lobby"]):
        tally.starting(start(number, entry), 10.0)
    tally.born(0, 10.02)
    tally.born(2, 12.0)
    tally.failed(1)
    tally.born(1, 99.0)  # it has failed: nothing is measured
    assert tally.spawns == {"app:room": 2, "app:lobby": 1}
    assert tally.function_workers == {"app:host": 1}
    data = tally.spawn_seconds.data()
    assert sum(data.counts) == 2
    assert round(data.sum, 3) == 2.02


def test_exits_by_entry_and_reason_and_connections_that_are_lost() -> None:
    tally = Tally()
    for kind in ("normal", "exit:3", "exit:4", "ws_closed:4711", "signal:SIGSEGV", "limit:oom"):
        tally.ended(ProcessEnded(pid("s"), "app:room", make_reason(kind)))
    for kind in ("noconnection", "normal", "ws_closed:4711"):
        tally.ended(ProcessEnded(pid("g1"), "", make_reason(kind)))
    assert tally.exits == {
        "app:room": {"normal": 1, "exit": 2, "ws_closed": 1, "signal:SIGSEGV": 1, "limit:oom": 1}
    }  # fmt: skip
    assert tally.connections_lost == 1


def test_what_has_not_happened_is_counted_as_none() -> None:
    tally = Tally()
    tally.ended(ProcessEnded(pid("s"), "app:room", make_reason("limit:disk")))
    tally.ended(ProcessEnded(pid("s"), "app:gone", make_reason("signal:SIGBUS")))  # a reload has removed it
    seen = tally.exits_of(["app:room", "app:lobby"])
    assert seen.keys() == {"app:room", "app:lobby", "app:gone"}
    assert seen["app:gone"] == {"signal:SIGBUS": 1}
    assert seen["app:room"].keys() == seen["app:lobby"].keys() == USUAL
    assert USUAL > LIMITS
    assert {reason: number for reason, number in seen["app:room"].items() if number} == {"limit:disk": 1}
    assert not any(seen["app:lobby"].values())
    assert len(USUAL) < 20, "so many series for each entry"


@pytest.mark.parametrize("kind", sorted(LIMITS))
def test_every_limit_is_told_apart(kind: str) -> None:
    assert reason_label(make_reason(kind)) == kind


def test_restarts_are_starts_after_backing_off() -> None:  # S38
    tally = Tally()
    states = [State.WAITING, State.STARTING, State.RUNNING, State.BACKING_OFF, State.STARTING, State.RUNNING]
    states += [State.BACKING_OFF, State.STOPPED, State.WAITING, State.STARTING]  # told to stop, and to start again
    for state in states:
        tally.service_changed(ServiceChanged("app:a", state, ""))
    assert tally.restarts == {"app:a": 1}


@given(st.lists(st.one_of(st.text(), st.from_regex(r"(exit|signal|limit|ws_closed):\w*", fullmatch=True))))
def test_labels_are_few_whatever_comes(kinds: list[str]) -> None:
    allowed = {"normal", "cancelled", "exception", "killed", "noproc", "noconnection", "protocol", "other"}
    allowed |= {"exit", "signal", "limit", "ws_closed"}
    for kind in kinds:
        label = reason_label(make_reason(kind))
        assert label in allowed or label.startswith(("signal:SIG", "limit:")), label
