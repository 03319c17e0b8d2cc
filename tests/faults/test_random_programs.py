"""The contract as a whole: random programs with faults on a real runtime, and all fifteen invariants after each (SEMANTICS.md).

`tools/soak` does the same for as long as one likes. A failing program is shrunk by Hypothesis, and printed as it can be
pasted into `tools/soak --program`.
"""

from __future__ import annotations

import dataclasses
import random
import shlex
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from soaking import program as p
from soaking.interpreter import perform_program
from soaking.report import Report, replay
from soaking.session import APPLICATION, Fault, Outcome, session
from soaking.stage import Stage
from soaking.watching import MISSED, endings
from support.invented import Paper
from wsrelay.kernel.wire import journal_records as j
from wsrelay.tools.faults import kinds

FAULTS = 500
"""Injected in the default run, at least."""
LENGTH = 60


def test_random_programs_break_no_promise() -> None:
    with Stage() as stage:

        @settings(
            max_examples=200,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        @given(program=p.programs(LENGTH))
        def perform(program: p.Program) -> None:
            if stage.faults < FAULTS or stage.failures:
                outcome = stage.perform(program)
                assert not outcome.failed, f"{outcome}\n{replay(program)}"

        perform()
        assert stage.faults >= FAULTS


@pytest.mark.parametrize("seed", range(2))
def test_a_supervisor_is_killed_in_the_midst(seed: int) -> None:  # S40
    program = (*p.draw(random.Random(seed), 25), p.Break(kinds.KillSupervisor()))
    with Stage() as stage:
        outcome = stage.perform(p.ending(program))
    assert not outcome.failed, f"{outcome}\n{replay(program)}"
    assert "KillSupervisor" in {fault.name for fault in outcome.faults}


def test_a_runtime_that_keeps_slow_clients_is_seen(tmp_path: Path) -> None:  # S54
    """The same program twice: on a runtime whose bounds are far away, which its gateway's memory shows too, and as it is."""
    application = shutil.copytree(APPLICATION, tmp_path / "application")
    index = application / "_index.yaml"
    text = index.read_text()
    for bound, none in (("write: 2s", "write: 1h"), ("outbound: 256KiB", "outbound: 1GiB")):
        assert bound in text
        text = text.replace(bound, none)
    index.write_text(text)
    never = kinds.NeverReads(size=48 << 20)
    with session(application) as patient:
        impatient = (p.Misbehave(dataclasses.replace(never, within=1.0)),)
        assert not perform_program(patient, ()).failed
        outcome = perform_program(patient, impatient)
    assert any("NeverReads" in complaint and "is to be cut (S54)" in complaint for complaint in outcome.complaints)
    assert {(violation.invariant, violation.evidence[0].record[:2]) for violation in outcome.violations} == {
        (11, ("memory", "gateway"))
    }
    with Stage() as stage:
        outcome = stage.perform((p.Misbehave(never),))
    assert not outcome.failed, outcome
    assert [fault.name for fault in outcome.faults] == ["NeverReads"]


@given(seed=st.integers(0, 1 << 32), length=st.integers(0, 40))
def test_a_program_is_a_value(seed: int, length: int) -> None:
    program = p.draw(random.Random(seed), length)
    assert program == p.draw(random.Random(seed), length)
    assert p.parse(p.show(program)) == p.parse(repr(program)) == program
    command = shlex.split(replay(program))
    assert command[:2] == ["tools/soak", "--program"]
    assert p.parse(command[2]) == program


@pytest.mark.parametrize("text", ["", "Raise()", "(Raise(),)", "(__import__('os'),)", "(Say(stream=0),)", "Say(0, 1)"])
def test_what_is_no_program_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"program|malformed"):
        p.parse(text)


@given(program=p.programs(20))
@settings(max_examples=20)
def test_hypothesis_draws_what_can_be_parsed(program: p.Program) -> None:
    assert p.parse(repr(program)) == program


@pytest.mark.parametrize("missed", [False, True])
@pytest.mark.parametrize("upgraded", [False, True])
def test_a_signal_that_comes_too_late_hits_nobody(missed: bool, upgraded: bool) -> None:  # S35
    """The process was dead, or what it hit was the old code of an upgrade, which had done its part: the process lives on."""
    paper = Paper()
    pid = paper.spawn()
    os_pid = 1001
    kill = kinds.Signal("SIGKILL")
    paper.write("test", j.FaultInjected(repr(kill), os_pid))
    if missed:
        paper.write("test", j.FaultInjected(f"{MISSED}{kill!r}", os_pid))
    if upgraded:
        paper.supervise(j.Upgraded(pid, "app:actor"), j.Born(1, pid, os_pid + 1))
    paper.supervise(j.Died(pid, "signal:SIGKILL", ""))
    complaints: list[str] = []
    found = endings(paper.entries, complaints)
    assert not complaints
    assert [fault.name for fault in found] == ([] if missed or upgraded else ["Signal"])


def outcome(faults: int, *, supervisor: float, failed: bool = False) -> Outcome:
    samples = {"memory of the supervisor": supervisor, "descriptors of the gateway": 20.0}
    complaints = ["it broke"] if failed else []
    return Outcome((), [Fault("Raise", 0.25)] * faults, complaints=complaints, samples=samples)


def test_the_report_says_how_soon_and_how_often() -> None:
    report = Report(1)
    report.add(outcome(3, supervisor=1e8))
    report.add(outcome(2, supervisor=1e8, failed=True))
    [row] = report.rows()
    assert (row.fault, row.times, row.violations, row.median, row.worst) == ("Raise", 5, 1, 0.25, 0.25)
    assert report.failed
    assert "5 faults in 2 programs, 1 of which broke a promise" in report.text()


def test_growth_fails_a_soak() -> None:
    steady, growing = Report(1), Report(1)
    for number in range(100):
        steady.add(outcome(50, supervisor=1e8))
        growing.add(outcome(50, supervisor=1e8 + number * 1e6))
    assert not steady.failed
    assert growing.failed
    assert "it grew" in growing.text()
