"""The duties behind the watchdog, and when the runtime is ready."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from wsrelay.kernel.core.duties import PATIENCE, Duties
from wsrelay.kernel.core.readiness import summary, unready, unsettled
from wsrelay.kernel.core.service_states import State

INTERVAL = 5.0


def test_a_part_that_is_down_for_a_while_is_being_mended() -> None:
    duties = Duties(["the gateway"], now=0.0)
    duties.report("the gateway", True, 1.0)
    duties.report("the gateway", False, 100.0)
    assert duties.unmet(100.0 + PATIENCE) == ""
    assert "the gateway has been down for" in duties.unmet(101.0 + PATIENCE)
    duties.report("the gateway", True, 170.0)
    assert duties.unmet(1000.0) == ""


def test_a_part_has_twice_as_long_as_it_ever_took() -> None:
    duties = Duties(["a host"], now=0.0)
    duties.report("a host", True, 50.0)
    duties.report("a host", False, 100.0)
    assert duties.unmet(100.0 + 100.0) == ""
    assert duties.unmet(100.0 + 101.0) != ""


def test_saying_the_same_again_does_not_restart_the_count() -> None:
    duties = Duties(["a host"], now=0.0)
    for now in range(0, 61, 10):
        duties.report("a host", False, float(now))
    assert duties.unmet(61.0) != ""


def test_a_loop_that_lags_misses_one_sign_of_life() -> None:
    duties = Duties([], now=0.0)
    assert duties.tick(INTERVAL, 0.0) == ""
    assert duties.tick(INTERVAL, 10.0) == ""
    assert "12.0 s late" in duties.tick(INTERVAL, 27.0)
    assert duties.tick(INTERVAL, 32.0) == ""


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=30))
def test_what_is_well_is_never_complained_of(reports: list[tuple[bool, float]]) -> None:
    duties, now = Duties(["a part"], now=0.0), 0.0
    for well, later in reports:
        now += later
        duties.report("a part", well, now)
        if well:
            assert duties.unmet(now + 1e6) == ""


def test_a_service_that_starts_or_backs_off_is_waited_for() -> None:
    states = dict(zip("abcdef", State, strict=False)) | {"g": State.FINISHED}
    waited_for = {
        State.STOPPED,
        State.WAITING,
        State.STARTING,
        State.BACKING_OFF,
        State.REPLACING,
        State.RETIRING,
        State.STOPPING,
    }
    assert unsettled(states, states) == [id for id, state in states.items() if state in waited_for]


def test_what_waits_for_a_service_that_was_given_up_is_not_waited_for() -> None:
    assert unsettled({"database": State.FAILED, "web": State.WAITING}, ["database", "web"]) == []
    assert unsettled({"database": State.STARTING, "web": State.WAITING}, ["web"]) == ["web"]


def test_the_summary_names_what_has_failed() -> None:
    assert summary({"a": State.RUNNING, "b": State.FAILED}) == "1 of 2 services run, failed: b"


def test_why_nobody_should_come_now() -> None:
    parts, services = {"the gateway": True, "the host a:b": True}, {"a": State.RUNNING, "b": State.FINISHED}
    assert unready(parts, services, services, stopping=False) == ""
    assert unready(parts, services, services, stopping=True) == "stopping"
    down = {**parts, "the host a:b": False}
    assert unready(down, services, services, stopping=False) == "not serving: the host a:b"
    services = {"a": State.BACKING_OFF, "b": State.FAILED, "c": State.STOPPED}
    said = unready(parts, services, ["a", "b"], stopping=False)
    assert said == "services that do not run: a (backing off), b (failed)"
