"""`tools/bench isolation`: its reasoning, and one short run without a judgement of latencies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmark.isolation import layout, outsider
from benchmark.isolation.command import APART, OF_SERVICE, OUTSIDE
from benchmark.isolation.excesses import EXCESSES, Excess
from benchmark.isolation.observed import parts
from benchmark.isolation.phases import forks_so_far
from benchmark.isolation.profile import QUICK, Profile
from benchmark.isolation.verdict import MIB, gateway_bound, latencies, percentile, problems, supervisor_bound
from benchmark.load.latency import RATIO, summary
from benchmark.report import isolated
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]

needs_two_processors = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="nothing can be kept apart on one processor"
)


@given(st.lists(st.lists(st.floats(1e-5, 1.0), min_size=1), min_size=1))
def test_percentiles_of_several_phases(phases: list[list[float]]) -> None:
    """Of all latencies together, to the width of a bucket."""
    histograms = [summary(phase)["histogram"] for phase in phases]
    ordered = sorted(latency * 1e6 for phase in phases for latency in phase)
    exact = ordered[max(0, -(-len(ordered) * 99 // 100) - 1)]
    assert exact <= percentile(histograms, 0.99) * 1.0001
    assert percentile(histograms, 0.99) <= exact * RATIO * 1.0001


def test_the_p99_may_double() -> None:
    calm, disturbed = [summary([0.001] * 100)], [summary([0.0015] * 100)]
    assert problems(latencies(calm, disturbed), timing=True) == []
    worse = latencies(calm, [summary([0.001] * 90 + [0.003] * 10)])
    assert "times the calm one" in problems(worse, timing=True)[0]
    assert problems(worse, timing=False) == []


def test_a_p99_that_is_not_promised_is_no_problem() -> None:
    worse = latencies([summary([0.001] * 100)], [summary([0.003] * 100)])
    assert problems(worse | {"promised": False}, timing=True) == []
    assert problems(worse | {"promised": True}, timing=True)


def test_every_crash_is_told_as_what_it_was() -> None:
    crashed: dict[str, Any] = {"asked": 2, "seconds": 1.0, "wanted seconds": 1.0, "missing": 0}
    assert problems({"crashes": [crashed | {"reasons": {"signal:SIGSEGV": 2}}]}, timing=False) == []
    assert problems({"crashes": [crashed | {"reasons": {"signal:SIGSEGV": 1}}]}, timing=False)
    assert problems({"crashes": [crashed | {"reasons": {"noproc": 2}}]}, timing=False)


def test_every_excess_ends_with_its_limit() -> None:
    found = {"expected reason": "limit:oom"}
    assert problems(found | {"ends": [{"reasons": {"limit:oom": 3}}]}, timing=False) == []
    assert problems(found | {"ends": [{"reasons": {"limit:oom": 3, "signal:SIGKILL": 1}}]}, timing=False)
    assert problems(found | {"ends": [{"reasons": {}}]}, timing=False)


def test_memory_over_its_bound_is_a_problem() -> None:
    memory = {"gateway": {"growth": 2 * MIB, "bound": MIB}}
    assert "the gateway grows by 2.0 MiB" in problems({"memory": memory}, timing=False)[0]


def test_the_bounds_are_those_of_the_documentation() -> None:
    """The example of docs/operations.md."""
    gateway = gateway_bound(
        inbound=MIB, outbound=MIB, message=MIB, stopped_workers=1, their_clients=100, slow_clients=1
    )
    text = (ROOT / "docs" / "operations.md").read_text()
    assert f"{gateway / MIB:.0f} MiB" in text
    assert f"{supervisor_bound(mailbox=64 * MIB, stopped_workers_with_mail=1) / MIB:.0f} MiB" in text


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """As users start it."""
    path = tmp_path_factory.mktemp("isolation") / "found.json"
    command = [sys.executable, "-m", "benchmark", "isolation", "--quick", "--json", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.fixture
def document(whole: dict[str, Any]) -> dict[str, Any]:
    """The figures of each disturbance."""
    cases: dict[str, Any] = whole["cases"]
    return cases


def test_the_page_has_a_row_for_each_disturbance(whole: dict[str, Any]) -> None:
    part = isolated.part(whole)
    for name, found in whole["cases"].items():
        assert f"| {name}: {found['title']} | {found['calm p99 ms']:.2f} |" in part
    assert part.count("not judged") == sum(found["promised"] for found in whole["cases"].values())
    assert "is no measurement" in part
    assert "| the gateway |" in part
    assert "| the supervisor |" in part


def test_the_page_has_no_verdict_where_nothing_is_promised(whole: dict[str, Any]) -> None:
    crashes = whole["cases"]["crashes"] | {"p99 ratio": 7.0}
    assert not crashes["promised"]
    assert "| 7.00 × |  |  |" in isolated.part(whole | {"profile": "full", "cases": {"crashes": crashes}})


@pytest.mark.parametrize(("ratio", "shown"), [(2.0, "2.00 × | 2 × | reached"), (2.001, "2.01 × | 2 × | not reached")])
def test_the_page_says_what_is_reached(ratio: float, shown: str, whole: dict[str, Any]) -> None:
    crashes = whole["cases"]["crashes"] | {"p99 ratio": ratio, "problems": ["too slow"], "promised": True}
    part = isolated.part(whole | {"profile": "full", "cases": {"crashes": crashes}})
    assert f"| {shown} |" in part
    assert "- not reached: crashes: too slow" in part


def test_crashes_are_told_and_others_answered(document: dict[str, Any]) -> None:  # S42
    [crashed] = document["crashes"]["crashes"]
    assert crashed["reasons"] == {"signal:SIGSEGV": round(QUICK.crash_rate * QUICK.seconds)}
    assert all(phase["messages"] for phase in document["crashes"]["disturbed"])


def test_a_stopped_process_costs_what_the_limits_say(document: dict[str, Any]) -> None:  # S10, S53, S54
    memory = document["pressure"]["memory"]
    assert all(part["growth"] <= part["bound"] for part in memory.values())
    assert min(document["pressure"]["flooded bytes"]) > 0
    assert all(phase["messages"] for phase in document["pressure"]["disturbed"])


@pytest.mark.parametrize("excess", EXCESSES.values(), ids=lambda excess: excess.what)
def test_who_uses_too_much_ends_alone_and_for_that(document: dict[str, Any], excess: Excess) -> None:  # S18
    found = document[excess.what]
    assert {reason for ended in found["ends"] for reason in ended["reasons"]} == {excess.reason}
    assert all(phase["messages"] for phase in found["disturbed"])


@pytest.mark.parametrize("what", QUICK.services)
def test_a_service_that_uses_too_much_ends_alone_and_comes_back(document: dict[str, Any], what: str) -> None:  # S36
    found = document[OF_SERVICE.format(what)]
    [ended] = found["ends"]
    assert set(ended["reasons"]) == {EXCESSES[what].reason}
    assert all(phase["messages"] for phase in found["disturbed"])
    assert set(Profile.services) == set(EXCESSES)


@needs_two_processors
def test_what_is_kept_apart_is_measured_too(whole: dict[str, Any], document: dict[str, Any]) -> None:
    """Promised is the p99 of those who are kept apart, where processors can keep them apart."""
    measured = {APART.format(name) for name in QUICK.apart}
    assert measured <= document.keys()
    assert OUTSIDE in document
    promised = {name for name, found in document.items() if found["promised"]}
    assert promised == measured | {"pressure", *map(OF_SERVICE.format, QUICK.services)}
    assert set(Profile.apart) == {"crashes", *EXCESSES}
    assert not set(whole["layout"]["kept"]) & set(whole["layout"]["noisy"])


@needs_two_processors
def test_what_disturbs_has_a_processor_of_its_own() -> None:
    """And who measures is not on it, as long as it measures."""
    before = os.sched_getaffinity(0)
    separate = layout.apart()
    assert separate is not None
    with separate.running() as server:
        watched = parts(server)
        assert watched["gateway"].cpu_affinity() == list(separate.kept)
        assert watched["supervisor"].cpu_affinity() == list(separate.noisy)
        of_hosts = [
            process.cpu_affinity()
            for process in server.processes()
            if "wsrelay.workers.shell.host" in process.cmdline()
        ]
        assert of_hosts.count(list(separate.noisy)) == len(layout.NOISY)
        assert all(each in (list(separate.kept), list(separate.noisy)) for each in of_hosts)
        assert os.sched_getaffinity(0) == set(separate.kept)
    assert os.sched_getaffinity(0) == before


def test_one_processor_keeps_nothing_apart() -> None:
    with layout.bound_to([min(os.sched_getaffinity(0))]):
        assert layout.apart() is None


def test_the_program_for_comparison_forks_and_leaves_nothing() -> None:
    before = forks_so_far()
    process = subprocess.Popen([sys.executable, "-P", outsider.__file__, "1000", "0.1"], process_group=0)
    assert process.wait(60) == 0
    assert forks_so_far() - before >= outsider.BATCH
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
